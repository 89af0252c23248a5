import os
import signal
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from automations.operations import supervisor
from automations.operations.supervisor import Child, Supervisor

WAITING = "import time; time.sleep(30)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(30)"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_TICK_SECONDS", 0.01)
    monkeypatch.setattr(supervisor, "_LONGEST_WAIT", 0.02)
    monkeypatch.setattr(supervisor, "_STOP_SECONDS", 0.5)


@pytest.fixture
def numbers() -> Iterator[int]:
    return count(1)


def build_child(code: str, directory: Path, numbers: Iterator[int] | None = None) -> Child:
    """A child whose environment has the number of its start."""
    return Child(
        name="child",
        command=[sys.executable, "-S", "-c", code],
        directory=directory,
        build_environment=lambda: {"NUMBER": str(next(numbers))} if numbers else {},
        log_path=directory / "child.log",
    )


def stop_this_process() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_who_does_not_end_is_killed(tmp_path: Path) -> None:
    started_at = time.monotonic()
    one = Supervisor([build_child(STUBBORN, tmp_path)])

    def is_set_up() -> bool:
        return time.monotonic() - started_at > 0.3

    assert one.run(is_ready=is_set_up, on_ready=stop_this_process)
    assert one._running[0].process.returncode == -signal.SIGKILL
    assert time.monotonic() - started_at < 3


def test_who_may_take_longer_to_end_is_given_the_time(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), sys.exit(0)))\n"
        "open('ready', 'w').close()\ntime.sleep(30)"
    )
    patient = msgspec.structs.replace(build_child(code, tmp_path), stop_seconds=5.0)
    one = Supervisor([patient])
    assert one.run(is_ready=(tmp_path / "ready").exists, on_ready=stop_this_process)
    assert one._running[0].process.returncode == 0


def test_what_never_runs_is_given_up(tmp_path: Path, numbers: Iterator[int], caplog: Any) -> None:
    child = build_child("raise SystemExit(3)", tmp_path, numbers)
    assert not Supervisor([child]).run(is_ready=lambda: False, on_ready=lambda: None)
    assert next(numbers) == 6
    assert "child ended with code 3" in caplog.text
    assert "keeps ending right after its start" in caplog.text


def test_one_that_is_not_vital_may_keep_ending(tmp_path: Path, numbers: Iterator[int]) -> None:
    child = msgspec.structs.replace(
        build_child("raise SystemExit(3)", tmp_path, numbers), is_vital=False
    )
    one = Supervisor([child])
    assert one.run(is_ready=lambda: one._running[0].young_deaths > 8, on_ready=stop_this_process)
    assert next(numbers) > 8


def test_restart_starts_everything_anew(tmp_path: Path, numbers: Iterator[int]) -> None:
    one = Supervisor([build_child(WAITING, tmp_path, numbers)])
    asked = count()

    def is_ready() -> bool:
        if next(asked) == 0:
            one.restart()
        return one._running[0].young_deaths == 1 and one._running[0].process.poll() is None

    assert one.run(is_ready=is_ready, on_ready=stop_this_process)
    assert next(numbers) == 3

"""A process that is stuck ends with a trace; one that a signal stopped is killed."""

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from automations.operations import process_watch
from automations.operations.process_watch import StoppedChildren
from tests.support.waiting import wait_until

START = (
    "import logging, re, signal, time; from automations.operations import process_watch as watch; "
    "logging.basicConfig(); watch._FROZEN_SECONDS = 3; watch._GRACE_SECONDS = 0.2; "
)
# It ignores SIGTERM, as what is stuck does.
STUCK = "signal.signal(15, signal.SIG_IGN); watch.end_if_stuck(time.process_time, seconds=1)"
FROZEN = "watch.end_if_stuck(lambda: 0, seconds=13); re.match('(a+)+$', 'a' * 60 + 'b')"


@pytest.mark.parametrize(
    ("code", "said"),
    [(f"{STUCK}\ndef hang():\n while True: pass\nhang()", "is stuck for 1 s"), (FROZEN, "Timeout")],
    ids=["its work", "the interpreter"],
)
def test_a_stuck_process_ends_with_a_trace(code: str, said: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", START + code],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "in hang" in ended.stderr or "in match" in ended.stderr


def test_a_process_that_moves_goes_on() -> None:
    code = f"{START}watch.end_if_stuck(lambda: 13, seconds=13); time.sleep(5)"
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


def test_a_stopped_child_is_killed_and_one_that_goes_on_is_not(monkeypatch: Any) -> None:
    monkeypatch.setattr(process_watch, "_FROZEN_SECONDS", 0.1)
    children = [subprocess.Popen(["sleep", "60"]) for _ in range(3)]
    pids = [child.pid for child in children]
    try:
        for pid in pids[:2]:
            os.kill(pid, signal.SIGSTOP)
        stopped = StoppedChildren()
        wait_until(lambda: bool(stopped.kill(pids) or len(stopped._since) == 2), seconds=5)
        os.kill(pids[1], signal.SIGCONT)
        wait_until(lambda: bool(stopped.kill(pids) or children[0].poll()), seconds=5)
        assert [child.poll() for child in children] == [-signal.SIGKILL, None, None]
        stopped.kill([*pids, 1])  # one that is gone, and one that is no child
    finally:
        for child in children:
            child.kill()
            child.wait()

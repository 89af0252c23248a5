"""Processes that tests start, watch and end, and what /proc says of them."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from tests.support.waiting import wait_until
from tracking.embedded import exec_with_parent

ROOT = Path(__file__).resolve().parents[2]
SECRET_KEY = "test-secret-key-of-no-worth-elsewhere"
_OWN = (
    *("API_", "DJANGO_", "FIELD_ENCRYPTION_", "INSTAGRAM_", "METRICS_", "MONGODB_", "PROMETHEUS_"),
    *("TRACKING_", "TEST_"),
)


def build_environment(**names: str) -> dict[str, str]:
    """What a shell of a deployment would have, and nothing of the developer's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
    return {
        **kept,
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DJANGO_SECRET_KEY": SECRET_KEY,
        "INSTAGRAM_APP_SECRET": "test-app-secret",
        "INSTAGRAM_VERIFY_TOKEN": "test-verify-token",
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "error",
        **names,
    }


def tie_to_parent(*command: str) -> list[str]:
    """The command line of a process that is killed when the thread that started it ends."""
    program = (sys.executable, "-I", "-S", exec_with_parent.__file__)
    return [*program, str(os.getpid()), *command]


class LoggedProcess:
    """A command in a process group of its own, started as often as needed, that logs to a file."""

    stop_seconds = 10.0

    def __init__(
        self, command: Sequence[str], *, log_path: Path, environment: Mapping[str, str],
        cwd: Path = ROOT,
    ) -> None:  # fmt: skip
        self.log_path = log_path
        self._command = command
        self._environment = environment
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return 0 if self._process is None or not self.is_running() else self._process.pid

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def is_ready(self) -> bool:
        return self.is_running()

    def wait_until_ready(self, *, seconds: float = 60.0) -> None:
        """Raises AssertionError with the end of its log when it ends, or takes too long."""
        wait_until(lambda: self.is_ready() or not self.is_running(), seconds=seconds,
                   what=lambda: f"it never answers: {self.read_log()[-2000:]}")  # fmt: skip
        assert self.is_running(), f"it ended: {self.read_log()[-2000:]}"

    def start(self) -> None:
        """Start it unless it runs; what an earlier one left of its group is killed."""
        if self.is_running():
            return
        self.kill()
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._cwd, env=self._environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def stop_in_its_tracks(self) -> None:
        """Let it hang with its sockets open, as a machine does whose disk is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill -9 it and all of its group."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self.is_running():
            self._process.terminate()
            try:
                self._process.wait(self.stop_seconds)
            finally:
                self.kill()

    def read_log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")


class Command:
    """A running `manage.py <command>`, with what it has printed so far."""

    def __init__(self, *arguments: str, environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", "manage.py", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for_line(self, pattern: str, *, seconds: float = 20) -> str:
        def find() -> list[str]:
            return [line for line in list(self.lines) if re.search(pattern, line)]

        wait_until(lambda: find() or self.process.poll() is not None, seconds=seconds)
        found = find()
        assert found, f"no line like {pattern!r} in:\n{self.output}"
        return found[0]

    def wait(self, *, seconds: float = 15) -> int:
        code = self.process.wait(seconds)
        self._reader.join(5)
        return code

    def stop(self, number: int = signal.SIGTERM, *, seconds: float = 15) -> int:
        self.process.send_signal(number)
        return self.wait(seconds=seconds)

    def list_descendants(self) -> list[int]:
        return list_descendants(self.process.pid)


@contextmanager
def running(*arguments: str, environment: Mapping[str, str]) -> Iterator[Command]:
    """Run a command for the length of the block; nothing of it is left afterwards."""
    command = Command(*arguments, environment=environment)
    try:
        yield command
    finally:
        below = command.list_descendants()
        command.process.kill()
        command.wait()
        for pid in list_alive(below):
            os.kill(pid, signal.SIGKILL)
        assert command.process.stdout is not None
        command.process.stdout.close()


def list_children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):  # it ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return sorted(found)


def list_descendants(pid: int) -> list[int]:
    """Every process below one, whatever its depth."""
    return [one for child in list_children(pid) for one in (child, *list_descendants(child))]


def read_stat(pid: int) -> list[str]:
    """/proc/<pid>/stat from the state on: [0] state, [1] parent, [11] user, [12] system time."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def list_alive(pids: Iterable[int]) -> list[int]:
    """Those that still run; a zombie does not."""
    return [pid for pid in pids if (read_stat(pid) or "Z")[0] != "Z"]


def read_command(pid: int) -> str:
    """The command line of a process, "" when it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def find_mongod(data_dir: Path) -> int | None:
    """The embedded mongod that runs on the directory, None when there is none."""
    try:
        pid = int((data_dir / "db" / "mongod.lock").read_text())
    except (OSError, ValueError):
        return None  # never started, or ended cleanly
    return pid if " --dbpath " in read_command(pid) else None

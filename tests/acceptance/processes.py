"""Commands of the project as processes of their own, as people start them."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
APP_SECRET = "acceptance-app-secret"
VERIFY_TOKEN = "acceptance-verify-token"


def build_environment(**names: str) -> dict[str, str]:
    """What a shell of a deployment would have, and nothing of the tests' own."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONWARNINGS": "error",
        "DJANGO_SECRET_KEY": "acceptance-secret-key",
        "INSTAGRAM_APP_SECRET": APP_SECRET,
        "INSTAGRAM_VERIFY_TOKEN": VERIFY_TOKEN,
        **names,
    }


class Command:
    """A running `manage.py <command>`, with what it has printed so far."""

    def __init__(self, *arguments: str, environment: dict[str, str]) -> None:
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
        """Return the first line that matches."""
        found: list[str] = []

        def look() -> bool:
            found.extend(line for line in list(self.lines) if re.search(pattern, line))
            return bool(found) or self.process.poll() is not None

        wait_until(look, seconds=seconds)
        assert found, f"no line like {pattern!r} in:\n{self.output}"
        return found[0]

    def wait(self, *, seconds: float = 15) -> int:
        """Return the exit code."""
        code = self.process.wait(seconds)
        self._reader.join(5)
        return code

    def list_descendants(self) -> set[int]:
        """Return the ids of every process below this one."""
        return _list_descendants(self.process.pid)


@contextmanager
def running(*arguments: str, environment: dict[str, str]) -> Iterator[Command]:
    """Run a command for the length of the block; nothing of it is left afterwards."""
    command = Command(*arguments, environment=environment)
    try:
        yield command
    finally:
        below = command.list_descendants()
        command.process.kill()
        command.wait()
        for pid in below & list_alive(below):
            os.kill(pid, signal.SIGKILL)
        assert command.process.stdout is not None
        command.process.stdout.close()


def list_alive(pids: set[int]) -> set[int]:
    """Return which of the processes still run; a zombie does not."""
    return {pid for pid in pids if _read_stat(pid)[0] not in ("", "Z")}


def find_free_port() -> int:
    """Return a port that nobody listens on, below those of outgoing connections."""
    with socket.socket() as probe:
        for port in range(18_000 + os.getpid() % 1000, 20_000):
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


def request(
    port: int, path: str, *, method: str = "GET", body: bytes = b"", **headers: str
) -> tuple[int, bytes]:
    """Return the status and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(
            method, path, body, {name.replace("_", "-"): text for name, text in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _read_stat(pid: int) -> tuple[str, int]:
    """Return the state and the parent of a process; "" if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "", 0
    state, parent = text.rpartition(")")[2].split()[:2]
    return state, int(parent)


def _list_descendants(pid: int) -> set[int]:
    parents = {
        int(entry.name): _read_stat(int(entry.name))[1]
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit()
    }
    found: set[int] = set()
    below = {pid}
    while below:
        below = {child for child, parent in parents.items() if parent in below} - found
        found |= below
    return found

"""Commands of the project as processes of their own, as people start them."""

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from tests.support.waiting import wait_until
from tests.support.webhook_cases import PATH, sign

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
        found: list[str] = []

        def look() -> bool:
            found.extend(line for line in list(self.lines) if re.search(pattern, line))
            return bool(found) or self.process.poll() is not None

        wait_until(look, seconds=seconds)
        assert found, f"no line like {pattern!r} in:\n{self.output}"
        return found[0]

    def wait(self, *, seconds: float = 15) -> int:
        code = self.process.wait(seconds)
        self._reader.join(5)
        return code

    def list_descendants(self) -> set[int]:
        pids = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
        parents = {pid: _read_stat(pid)[1] for pid in pids}
        found: set[int] = set()
        below = {self.process.pid}
        while below:
            below = {child for child, parent in parents.items() if parent in below} - found
            found |= below
        return found


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


@contextmanager
def serving(port: int, data_dir: Path, *options: str, **names: str) -> Iterator[Command]:
    arguments = ("serve", "--port", str(port), "--data-dir", str(data_dir), *options)
    with running(*arguments, environment=build_environment(**names)) as command:
        command.wait_for_line("Stop with Ctrl-C")
        yield command


def list_alive(pids: set[int]) -> set[int]:
    """Return which of the processes still run; a zombie does not."""
    return {pid for pid in pids if _read_stat(pid)[0] not in ("", "Z")}


def request(
    port: int,
    path: str,
    *,
    method: str = "GET",
    body: bytes = b"",
    headers: Mapping[str, str] = {},
) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()


def post_signed(port: int, body: bytes, secret: str = APP_SECRET) -> int:
    """Return the status that the webhook answers to a body signed with the secret."""
    signed = {"X-Hub-Signature-256": sign(body, secret), "Content-Type": "application/json"}
    return request(port, PATH, method="POST", body=body, headers=signed)[0]


def is_answering(port: int) -> bool:
    try:
        return request(port, "/healthz") == (200, b"ok")
    except OSError:
        return False


def _read_stat(pid: int) -> tuple[str, int]:
    """Return the state and the parent of a process; "" if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "", 0
    state, parent = text.rpartition(")")[2].split()[:2]
    return state, int(parent)

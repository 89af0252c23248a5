"""Processes that are measured: started, watched until they are idle, ended."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tracking.embedded import exec_with_parent

_WITH_PARENT = Path(exec_with_parent.__file__)
_TICKS = os.sysconf("SC_CLK_TCK")
_IDLE_SHARE = 0.06  # of one core; a mongod with nothing to do takes 1 to 3 %
_LOOK_SECONDS = 0.3


class Process:
    """One started candidate; what it says goes to a file."""

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str], cwd: Path, log: Path
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                # Whatever ends the bench ends its candidates.
                [sys.executable, "-I", "-S", str(_WITH_PARENT), str(os.getpid()), *command],
                cwd=cwd,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def wait_until_listening(self, port: int, *, seconds: float = 60.0) -> None:
        """Return once it answers; raises RuntimeError with the end of its log otherwise."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
                    probe.settimeout(10)
                    probe.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    if probe.recv(12):
                        return
            except OSError:
                time.sleep(0.1)
        said = self.log.read_text(errors="replace")[-2000:]
        self.stop()
        raise RuntimeError(f"a candidate did not start; it said:\n{said}")

    def stop(self) -> None:
        """End it in order, by force after 15 s."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                for pid in list_tree([self.pid]):
                    os.kill(pid, 9)
                self._process.wait()


def choose_port() -> int:
    """Return a port that is free now, below those the kernel gives to connections."""
    for port in range(21000 + os.getpid() % 5000, 32000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            if port not in _given:
                _given.add(port)
                return port
    raise RuntimeError("no port is free")


_given: set[int] = set()


def list_tree(pids: Iterable[int]) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _read_stat(int(entry.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], list(pids)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def read_cpu_seconds(pids: Iterable[int]) -> float:
    total = 0
    for pid in list_tree(pids):
        fields = _read_stat(pid)
        if fields:
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def wait_until_idle(pids: Sequence[int], *, seconds: float = 30.0) -> bool:
    """Wait until all of them together are idle; False when they were not within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        before = read_cpu_seconds(pids)
        time.sleep(_LOOK_SECONDS)
        if read_cpu_seconds(pids) - before <= _IDLE_SHARE * _LOOK_SECONDS * max(len(pids), 1):
            return True
    return False


def _read_stat(pid: int) -> list[str]:
    """Return /proc/<pid>/stat from the state on: [0] state, [1] parent, [11] user, [12] system."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()

"""The workers that a run kills: children of tests.chaos.worker_pool."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from pymongo import timeout
from pymongo.database import Database
from pymongo.errors import PyMongoError

from automations.outbox.jobs import LONG_AGO
from automations.outbox.worker import THREADS
from tests.support.web_server import ROOT, build_environment

_PATIENCE_SECONDS = 30.0
_STOP_SECONDS = 40.0
_READ_SECONDS = 1.0


class Workers:
    """`count` worker processes on a database; who is killed is replaced at once."""

    def __init__(
        self, directory: Path, *, uri: str, count: int, haste: float, **settings: str
    ) -> None:
        self.kills = 0
        self.in_flight = 0  # sends that were under way in those that were killed, at most
        self.count = count
        self._log_path = directory / "workers.log"
        self._command = [sys.executable, "-m", "tests.chaos.worker_pool", str(count), str(haste)]
        self._environment = build_environment(uri, **settings)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )  # fmt: skip
        self._find(0)

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()

    def kill(self, number: int, database: Database[dict[str, object]]) -> None:
        """Kill -9 one of them, and count what it was sending."""
        pid = self._find(number)
        os.kill(pid, signal.SIGKILL)
        self.kills += 1
        self.in_flight += _count_sending(database, pid)

    def note_outage(self) -> None:
        """Count what the workers were sending when the database went away, at most."""
        self.in_flight += self.count * THREADS

    def _find(self, number: int) -> int:
        """Return the process id of one, as soon as there are as many as there should be."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while len(pids := self._list()) < self.count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"Workers do not come back; {self._log_path} says why.")
            time.sleep(0.01)
        return pids[number]

    def _list(self) -> list[int]:
        assert self._process is not None
        parent = self._process.pid
        with suppress(OSError):
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
            return sorted(int(pid) for pid in children.split())
        return []


def _count_sending(database: Database[dict[str, object]], pid: int) -> int:
    """Return how many calls of a worker that is dead are stored as under way."""
    query = {
        "lease.until": {"$gt": LONG_AGO}, "lease.owner": {"$regex": f":{pid}:"}, "state": "sending",
    }  # fmt: skip
    try:
        with timeout(_READ_SECONDS):
            return database["automation_triggers"].count_documents(query)
    except PyMongoError:
        return THREADS

"""The workers that a run kills: children of tests.chaos.worker_pool."""

import os
import signal
import sys
from pathlib import Path

from pymongo import timeout
from pymongo.database import Database
from pymongo.errors import PyMongoError

from automations.outbox.jobs import LONG_AGO
from automations.outbox.worker import THREADS
from tests.support.processes import LoggedProcess, build_environment, list_children
from tests.support.waiting import wait_until

_READ_SECONDS = 1.0


class Workers(LoggedProcess):
    """`count` worker processes on a database; who is killed is replaced at once."""

    stop_seconds = 40.0

    def __init__(
        self, directory: Path, *, uri: str, count: int, haste: float, **settings: str
    ) -> None:
        self.kills = 0
        self.in_flight = 0  # sends that were under way in those that were killed, at most
        self.count = count
        super().__init__(
            [sys.executable, "-m", "tests.chaos.worker_pool", str(count), str(haste)],
            log_path=directory / "workers.log",
            environment=build_environment(MONGODB_URI=uri, **settings),
        )

    def is_ready(self) -> bool:
        return len(list_children(self.pid)) >= self.count

    def kill_one(self, number: int, database: Database[dict[str, object]]) -> None:
        """Kill -9 one of them, once all are there, and count what it was sending."""
        pids: list[int] = []

        def are_back() -> bool:
            pids[:] = list_children(self.pid)
            return len(pids) >= self.count

        wait_until(are_back, seconds=30, what=lambda: f"back; {self.log_path} says why")
        os.kill(pids[number], signal.SIGKILL)
        self.kills += 1
        self.in_flight += _count_sending(database, pids[number])

    def note_outage(self) -> None:
        """Count what the workers were sending when the database went away, at most."""
        self.in_flight += self.count * THREADS


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

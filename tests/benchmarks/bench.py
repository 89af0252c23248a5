"""One run: its mongod, its options, and what every row needs of them."""

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from pymongo import IndexModel, MongoClient
from pymongo.database import Database

from tests.benchmarks.candidates import (
    Candidate,
    Running,
    install_peer,
    peer,
    port,
    run_command,
    serve,
    unpack_commit,
)
from tests.benchmarks.options import Options
from tests.benchmarks.workload import Document
from tests.support.processes import list_descendants, read_stat
from tests.support.waiting import wait_until
from tracking.embedded import server as embedded

Entrant = TypeVar("Entrant")
# By the names people know; every candidate, and the floor, writes against the same four.
RUN_INDEXES = [
    IndexModel({"automationId": 1, "createdAt": -1}, name="automationId_createdAt"),
    IndexModel(
        {"automationId": 1, "userId": 1, "createdAt": -1}, name="automationId_userId_createdAt"
    ),
    IndexModel({"workspaceId": 1, "createdAt": -1}, name="workspaceId_createdAt"),
    IndexModel({"createdAt": 1}, name="createdAt_ttl", expireAfterSeconds=90 * 86_400),
]
AUTOMATION_INDEXES = [
    IndexModel({"accountId": 1, "isActive": 1}, name="accountId_isActive"),
    IndexModel({"workspaceId": 1, "createdAt": -1}, name="workspaceId_createdAt"),
]
_MOST_LAG_SECONDS = 300.0
_TICKS = os.sysconf("SC_CLK_TCK")
_IDLE_SHARE = 0.06  # of one core; a mongod with nothing to do takes 1 to 3 %
_LOOK_SECONDS = 0.3


class Bench:
    """One mongod for the whole run; every candidate of every row has a database of its own."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._temporary = tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)
        self.directory = Path(self._temporary.name)
        self._before = (
            [unpack_commit(options.before, self.directory / "before")] if options.before else []
        )
        self.why_no_peer = install_peer(self.directory / "peer")
        uri = urlsplit(embedded.ensure_running(self.directory / "mongodb"))
        self._netloc = uri.netloc
        self._replica_set = parse_qs(uri.query)["replicaSet"][0]
        self.client: MongoClient[Document] = MongoClient(
            self.build_uri("admin"), tz_aware=True, appname="bench"
        )
        status = self.client.admin.command("serverStatus")
        self.mongod, self.version = int(status["pid"]), str(status["version"])
        self.running: list[Running] = []
        self._made = 0

    def line_up(
        self, *, more: Iterable[int] = (), modes: Iterable[str] = ("naive", "fair"),
        has_port: bool = False,
    ) -> list[Candidate]:  # fmt: skip
        """Return who takes part: ours, its commit before, ours with `more` processes, the peers."""
        modes = () if self.why_no_peer else modes
        candidates = [
            *(serve(2), *self._before, *map(serve, more)),
            *(peer(mode, self.directory / "peer") for mode in modes),
            *([port(2)] if has_port else []),
        ]
        return [one for one in candidates if self.options.is_wanted(one.name)]

    def build_uri(self, database: str) -> str:
        """Return the URI that every candidate gets: majority and journal for everyone."""
        return (
            f"mongodb://{self._netloc}/{database}"
            f"?replicaSet={self._replica_set}&w=majority&journal=true"
        )

    def create_database(
        self, automations: list[Document], *, has_indexes: bool = True
    ) -> Database[Document]:
        """Return a new database with these automations and the peers' indexes."""
        self._made += 1
        database = self.client[f"bench_{self._made:03d}"]
        database.create_collection("automation_runs")
        database["automations"].insert_many([dict(one) for one in automations])
        database["automations"].create_indexes(AUTOMATION_INDEXES)
        if has_indexes:
            database["automation_runs"].create_indexes(RUN_INDEXES)
        return database

    def start(self, candidate: Candidate, database: Database[Any]) -> Running:
        uri = self.build_uri(database.name)
        if candidate.is_ours:
            run_command("add_run_indexes", uri=uri, root=candidate.root)
        log_path = self.directory / f"{database.name}.log"
        running = Running(candidate, database=database, uri=uri, log_path=log_path)
        self.running.append(running)
        running.start()
        running.wait_until_ready()
        return running

    def run_rounds(
        self, entrants: Sequence[Entrant], prepare: Callable[[int], Callable[[Entrant], None]],
        numbers: Iterable[int],
    ) -> None:  # fmt: skip
        """Measure each in every round, in changing order, once all others are idle.

        `prepare` returns what measures in the round of that number.
        """
        for number in numbers:
            if number:
                say(f"  round {number}")
            measure = prepare(number)
            ordered = list(entrants)
            random.Random(number).shuffle(ordered)  # the same in every run
            for one in ordered:
                self.settle()
                measure(one)

    def settle(self) -> None:
        """Write a checkpoint and wait until mongod and every candidate are idle."""
        # What is dirty now would be another's work.
        self.client.admin.command("fsync")
        deadline = time.monotonic() + 30
        pids = [self.mongod, *(one.pid for one in self.running)]
        while time.monotonic() < deadline:
            before = read_cpu_seconds(pids)
            time.sleep(_LOOK_SECONDS)
            if read_cpu_seconds(pids) - before <= _IDLE_SHARE * _LOOK_SECONDS * len(pids):
                return
        say("    (not idle after 30 s; going on)")

    def measure_lag(self, running: Running) -> float:
        """Wait until everything is counted; return the seconds that it took.

        0 for a candidate that counts before it answers, as the peers and older commits do.
        """
        triggers = running.db["automation_triggers"]
        indexes = triggers.index_information().values()
        if not any(index["key"][0][0] == "partition" for index in indexes):
            return 0.0
        query = {"partition": {"$gte": 0}}
        return wait_until(
            lambda: triggers.find_one(query, {"_id": 1}) is None,
            seconds=_MOST_LAG_SECONDS, what=lambda: f"counted by {running.candidate.name}",
        )  # fmt: skip

    def end(self) -> None:
        for one in self.running:
            one.stop()
        self.running.clear()
        for name in self.client.list_database_names():
            if name.startswith("bench_"):
                self.client.drop_database(name)

    def close(self) -> None:
        for one in self.running:
            one.stop()
        self.client.close()
        embedded.stop(self.directory / "mongodb")
        self._temporary.cleanup()


def read_cpu_seconds(pids: Iterable[int]) -> float:
    found = [read_stat(one) for pid in pids for one in (pid, *list_descendants(pid))]
    return sum(int(stat[11]) + int(stat[12]) for stat in found if stat) / _TICKS


_began = time.monotonic()


def say(text: str) -> None:
    sys.stdout.write(f"[{time.monotonic() - _began:6.1f} s] {text}\n")
    sys.stdout.flush()

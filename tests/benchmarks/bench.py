"""One run: its mongod, its options, and what every row needs of them."""

import random
import sys
import time
from collections.abc import Sequence
from typing import TypeVar

from tests.benchmarks.before import Before
from tests.benchmarks.candidates import Candidate, Peer, Running, run_command
from tests.benchmarks.options import Options
from tests.benchmarks.processes import read_cpu_seconds, wait_until_idle
from tests.benchmarks.server import Server
from tests.benchmarks.workload import Automations

Item = TypeVar("Item")
_MOST_LAG_SECONDS = 300.0


class Bench:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.before = Before(options.before)
        self.server = Server()
        self.peer = Peer()
        if self.peer.why_not:
            say(f"The peer on Node is left out: {self.peer.why_not}.")

    def choose(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        return [one for one in candidates if self.options.is_wanted(one.name)]

    def start(self, candidate: Candidate, automations: Automations) -> Running:
        database = self.server.create_database(automations.documents)
        return self.start_on(candidate, database)

    def start_on(self, candidate: Candidate, database: str) -> Running:
        if candidate.is_ours:
            uri = self.server.build_uri(database)
            run_command("add_run_indexes", uri=uri, root=candidate.root)
        return Running(candidate, server=self.server, database=database)

    def settle(self, running: Sequence[Running]) -> None:
        self.server.write_checkpoint()
        pids = [self.server.pid, *(one.process.pid for one in running)]
        if not wait_until_idle(pids):
            say("    (not idle after 30 s; going on)")

    def measure_lag(self, running: Running) -> float:
        """Wait until everything is counted; return the seconds that it took.

        0 for a candidate that counts before it answers, as the peers and older commits do.
        """
        database = self.server.get_database(running.database)
        began = time.perf_counter()
        indexes = database["automation_triggers"].index_information().values()
        if not any(index["key"][0][0] == "partition" for index in indexes):
            return 0.0
        query = {"partition": {"$gte": 0}}
        while database["automation_triggers"].find_one(query, {"_id": 1}) is not None:
            if time.perf_counter() - began > _MOST_LAG_SECONDS:
                raise TimeoutError(f"{running.candidate.name} does not count what it stored.")
            time.sleep(0.005)
        return time.perf_counter() - began

    def read_cpu(self, running: Running | None) -> tuple[float, float]:
        web = read_cpu_seconds([running.process.pid]) if running else 0.0
        return web, read_cpu_seconds([self.server.pid])

    def end(self, running: Sequence[Running]) -> None:
        for one in running:
            one.process.stop()
        for name in {one.database for one in running}:
            self.server.drop_database(name)

    def close(self) -> None:
        self.server.stop()
        self.peer.remove()
        self.before.remove()


def order_round(items: Sequence[Item], number: int) -> list[Item]:
    """Return the items in another order for every round, the same in every run."""
    ordered = list(items)
    random.Random(number).shuffle(ordered)
    return ordered


_began = time.monotonic()


def say(text: str) -> None:
    sys.stdout.write(f"[{time.monotonic() - _began:6.1f} s] {text}\n")
    sys.stdout.flush()

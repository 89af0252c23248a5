"""One mongod, web servers and counters, what strikes them, and when nothing could answer."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from tests.chaos.counters import HAS_COMMAND, Counter
from tests.support.mongod_process import find_mongod
from tests.support.web_server import WebServer
from tracking.embedded import mongod
from tracking.embedded import server as embedded

WINDOW_MINUTES = 1
_LOOK_SECONDS = 0.04


class Cluster:
    """Everything that is killed, and what starts it again."""

    def __init__(
        self, directory: Path, *, web_servers: int = 2, counters: int = 0, **settings: str
    ) -> None:
        self._data_dir = directory / "data"
        self.uri = embedded.ensure_running(self._data_dir, test_commands=True)
        self.mongod_kills = self.process_kills = self.counter_kills = self.freezes = 0
        # When mongod had no primary, and when no web server was up: (from, to), monotonic.
        self.outages: list[tuple[float, float]] = []
        self.blows: list[tuple[float, str]] = []
        parts = urlsplit(self.uri)
        self._port, self._set = parts.port or 0, parse_qs(parts.query)["replicaSet"][0]
        # The shortest window there is, so that a run of minutes sees people count again.
        window = {"TRACKING_DEDUP_WINDOW_MINUTES": str(WINDOW_MINUTES)}
        self.servers = [
            WebServer(
                directory, uri=self.uri, name=f"web-{number}", threads=32, **window, **settings
            )
            for number in range(1, web_servers + 1)
        ]
        self.counters = [
            Counter(directory, uri=self.uri, name=f"counter-{number}", **window, **settings)
            for number in range(1, counters * HAS_COMMAND + 1)
        ]

    def start(self) -> None:
        for one in (*self.servers, *self.counters):
            one.start()
        for server in self.servers:
            server.wait_until_ready()

    def stop(self) -> None:
        for one in (*self.servers, *self.counters):
            one.stop()
        embedded.stop(self._data_dir)

    def strike(self, target: str, number: int, *, freeze_seconds: float = 0.0) -> None:
        """Kill what the target names, and start again what nobody else would."""
        if target == "process":
            self.process_kills += self.servers[number].kill_worker()
        elif target == "server":
            self._kill_servers([self.servers[number]])
        elif target == "counter":
            self._kill_counters(self.counters[number : number + 1])
        elif target == "frozen":
            for counter in self.counters[number : number + 1]:
                counter.freeze(freeze_seconds)
                self.freezes += 1
        elif target == "mongod":
            self._kill_mongod()
        else:
            self._kill_mongod()
            self._kill_counters(self.counters)
            self._kill_servers(self.servers)

    def wait_until_thawed(self) -> None:
        for counter in self.counters:
            counter.wait_until_thawed()

    def wait_until_whole(self, *, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not (self._has_primary() and all(server.is_ready() for server in self.servers)):
            for server in self.servers:
                # granian gives up on a process that is killed twice within seconds.
                server.start_if_ended()
            for counter in self.counters:
                counter.start()
            if time.monotonic() > deadline:
                raise TimeoutError("Something that was killed does not come back.")
            time.sleep(_LOOK_SECONDS)

    def note_outage(self) -> None:
        """Note how long from now on there is no primary, or no server that answers."""
        threading.Thread(target=self._watch, args=(time.monotonic(),), daemon=True).start()

    def _kill_mongod(self) -> None:
        if (pid := find_mongod(self._data_dir)) is not None:
            os.kill(pid, signal.SIGKILL)
            self.mongod_kills += 1
        threading.Thread(target=self._start_mongod, args=(pid,), daemon=True).start()

    def _start_mongod(self, killed: int | None) -> None:
        while find_mongod(self._data_dir) == killed or not self._has_primary():
            embedded.ensure_running(self._data_dir)
            time.sleep(_LOOK_SECONDS)

    def _kill_servers(self, servers: Sequence[WebServer]) -> None:
        for server in servers:
            server.kill()
            self.process_kills += 1
        for server in servers:
            server.start()

    def _kill_counters(self, counters: Sequence[Counter]) -> None:
        for counter in counters:
            counter.kill()
            self.counter_kills += 1
            counter.start()

    def _watch(self, began: float) -> None:
        while not (self._has_primary() and any(server.is_ready() for server in self.servers)):
            time.sleep(_LOOK_SECONDS)
        self.outages.append((began, time.monotonic()))

    def _has_primary(self) -> bool:
        return mongod.is_primary(self._port, self._set)


class Stall(NamedTuple):
    """A time without any acknowledgement: its seconds, and when it began (monotonic)."""

    seconds: float
    began: float


def find_longest_stall(
    moments: Sequence[float], start: float, end: float, outages: Sequence[tuple[float, float]] = ()
) -> Stall:
    """Return the longest time between two acknowledgements, outages not counted."""
    longest = Stall(0.0, start)
    for before, after in pairwise([start, *sorted(moments), end]):
        if after - before > longest.seconds:
            seconds = after - before - _overlap(before, after, outages)
            longest = max(longest, Stall(seconds, before))
    return longest


def _overlap(before: float, after: float, outages: Sequence[tuple[float, float]]) -> float:
    """Return how much of an interval the outages cover, together."""
    covered, reached = 0.0, before
    for began, ended in sorted(outages):
        covered += max(min(ended, after) - max(began, reached), 0.0)
        reached = max(reached, ended)
    return covered

"""One mongod, web servers and counters, what strikes them, and when nothing could answer."""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from tests.support.processes import LoggedProcess, build_environment, find_mongod
from tests.support.waiting import wait_until
from tests.support.web_server import WebServer
from tracking.embedded import mongod
from tracking.embedded import server as embedded

WINDOW_MINUTES = 1
# The shortest window there is, so that a run of minutes sees people count again.
SETTINGS = {"TRACKING_DEDUP_WINDOW_MINUTES": str(WINDOW_MINUTES)}
_LOOK_SECONDS = 0.04


class Counter(LoggedProcess):
    _thaw: threading.Timer | None = None

    def __init__(self, directory: Path, number: int, uri: str) -> None:
        super().__init__(
            [sys.executable, "manage.py", "run_counter"],
            log_path=directory / f"counter-{number}.log",
            environment=build_environment(MONGODB_URI=uri, **SETTINGS),
        )

    def freeze(self, seconds: float) -> None:
        """Stop it in its tracks; it goes on later, and others have its share by then."""
        if not self.is_running() or (self._thaw is not None and self._thaw.is_alive()):
            return
        self.stop_in_its_tracks()
        self._thaw = threading.Timer(seconds, self.go_on)
        self._thaw.start()

    def wait_until_thawed(self) -> None:
        if self._thaw is not None:
            self._thaw.join()

    def stop(self) -> None:
        self.wait_until_thawed()
        super().stop()


class Cluster:
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
        self.servers = [
            WebServer(
                directory, uri=self.uri, name=f"web-{number}", threads=32, **SETTINGS, **settings
            )
            for number in range(web_servers)
        ]
        self.counters = [Counter(directory, number, self.uri) for number in range(counters)]

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
        elif target == "frozen":
            self.counters[number].freeze(freeze_seconds)
            self.freezes += 1
        if target in ("mongod", "power"):
            self._kill_mongod()
        if target in ("counter", "power"):
            self._kill_counters(self.counters if target == "power" else [self.counters[number]])
        if target in ("server", "power"):
            self._kill_servers(self.servers if target == "power" else [self.servers[number]])

    def wait_until_thawed(self) -> None:
        for counter in self.counters:
            counter.wait_until_thawed()

    def wait_until_whole(self) -> None:
        wait_until(self._is_whole, seconds=60, what=lambda: "whole again")

    def _is_whole(self) -> bool:
        if self._has_primary() and all(server.is_ready() for server in self.servers):
            return True
        for one in (*self.servers, *self.counters):
            # granian gives up on a process that is killed twice within seconds.
            one.start()
        return False

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

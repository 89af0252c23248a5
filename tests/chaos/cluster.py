"""One mongod and two web servers, the blows that fall on them, and when nobody could answer."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from tests.support.web_server import WebServer
from tracking.embedded import mongod, replica_set
from tracking.embedded import server as embedded

WINDOW_MINUTES = 1
_LOOK_SECONDS = 0.04


class Cluster:
    """Everything that is killed. The embedded server's keeper starts mongod again by itself."""

    def __init__(self, directory: Path, *, web_servers: int = 2, **settings: str) -> None:
        self.uri = embedded.ensure_running(directory / "data", test_commands=True)
        self.mongod_kills = self.process_kills = 0
        # When mongod had no primary, and when no web server was up: (from, to), monotonic.
        self.outages: list[tuple[float, float]] = []
        self.blows: list[tuple[float, str]] = []
        self._data_dir = (directory / "data").resolve()
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

    def start(self) -> None:
        """Start both web servers."""
        for server in self.servers:
            server.start()
        for server in self.servers:
            server.wait_until_ready()

    def stop(self) -> None:
        """End everything."""
        for server in self.servers:
            server.stop()
        embedded.stop(self._data_dir.parent / "data")

    def strike(self, target: str, server: int) -> None:
        """Kill what the target names, and start again what nobody else would."""
        if target == "process":
            self.process_kills += self.servers[server].kill_worker()
        elif target == "server":
            self._kill_servers([self.servers[server]])
        elif target == "mongod":
            self._kill_mongod()
        else:
            self._kill_mongod()
            self._kill_servers(self.servers)

    def wait_until_whole(self, *, seconds: float = 60.0) -> None:
        """Return once mongod has a primary and both servers answer."""
        deadline = time.monotonic() + seconds
        while not (self._has_primary() and all(server.is_ready() for server in self.servers)):
            for server in self.servers:
                # granian gives up on a process that is killed twice within seconds.
                server.start_if_ended()
            if time.monotonic() > deadline:
                raise TimeoutError("Something that was killed does not come back.")
            time.sleep(_LOOK_SECONDS)

    def note_outage(self) -> None:
        """Note how long from now on there is no primary, or no server that answers."""
        threading.Thread(target=self._watch, args=(time.monotonic(),), daemon=True).start()

    def _kill_mongod(self) -> None:
        for pid in mongod._list_pids_on(mongod.get_database_dir(self._data_dir)):
            os.kill(pid, signal.SIGKILL)
            self.mongod_kills += 1

    def _kill_servers(self, servers: Sequence[WebServer]) -> None:
        for server in servers:
            server.kill()
            self.process_kills += 1
        for server in servers:
            server.start()

    def _watch(self, began: float) -> None:
        while not (self._has_primary() and any(server.is_ready() for server in self.servers)):
            time.sleep(_LOOK_SECONDS)
        self.outages.append((began, time.monotonic()))

    def _has_primary(self) -> bool:
        return replica_set.is_primary(port=self._port, replica_set=self._set)


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

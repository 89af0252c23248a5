"""Under load, the wire to MongoDB is slow, cut or dead, or mongod dies at the worst moment."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from tests.chaos.load import Load, prepare_database
from tests.chaos.replica_set import ReplicaSet
from tests.support.tcp_proxy import TcpProxy
from tests.support.web_server import WebServer

WINDOW = timedelta(minutes=1)
# What Meta waits; ours are 3.2 s, on a machine that runs nothing else.
MOST_SECONDS = 5.0
MODES = ("slow", "hold", "cut", "lose reply", "half open", "refuse")
RATE = 100.0


class Bench:
    """A web server whose only way to its mongod is the proxy, under load."""

    def __init__(self, directory: Path, replica_set: ReplicaSet) -> None:
        self.replica_set = replica_set
        self.proxy = TcpProxy(replica_set.members[0].port)
        uri = f"mongodb://127.0.0.1:{self.proxy.port}/runs?directConnection=true"
        self.server = WebServer(directory, uri=uri, threads=16, TRACKING_DEDUP_WINDOW_MINUTES="1")
        self.load = Load([self.server.url], seed=1, connections=8, rate=RATE)

    def wait_for_more(self, events: int = 60) -> None:
        self.load.wait_for_more(events)

    def restart_mongod(self) -> None:
        [member] = self.replica_set.members
        member.kill()
        member.start()


@contextmanager
def counted_exactly(directory: Path) -> Iterator[Bench]:
    """Load for the length of the block; afterwards all of it is counted again."""
    with (
        ReplicaSet(directory, size=1) as replica_set,
        MongoClient[dict[str, Any]](replica_set.uri, tz_aware=True) as client,
    ):
        database = client.get_default_database()
        prepare_database(database)
        bench = Bench(directory, replica_set)
        load = bench.load
        load.insert_automations(database)
        with bench.proxy, bench.server:
            load.start()
            try:
                bench.wait_for_more()
                yield bench
                bench.wait_for_more()
            finally:
                load.stop()
            load.resend()
            assert load.recount(database, window=WINDOW) == []
        assert load.answers.keys() <= {"200", "503"}
        assert load.slowest < MOST_SECONDS


def test_whatever_the_wire_does_every_event_counts_once(tmp_path: Path) -> None:
    with counted_exactly(tmp_path) as bench:
        for mode in MODES:
            with bench.proxy.acting(mode):
                time.sleep(1.5 if mode in ("slow", "cut", "refuse") else 4)
            bench.wait_for_more()
        assert bench.load.answers["503"]  # it was felt


@pytest.mark.parametrize("after", [0.0, 0.004])
def test_a_mongod_that_dies_at_a_commit_counts_once(tmp_path: Path, after: float) -> None:
    """It dies before the commit reaches it, or when it may be done and its reply is on the way."""
    with counted_exactly(tmp_path) as bench:
        is_seen, is_dead = threading.Event(), threading.Event()

        def look(data: bytes) -> None:
            if b"commitTransaction" in data and not is_seen.is_set():
                is_seen.set()
                if not after:
                    is_dead.wait(5)

        bench.proxy.on_request = look
        assert is_seen.wait(20)
        time.sleep(after)
        bench.restart_mongod()
        is_dead.set()
        bench.replica_set.wait_until_whole()
        bench.wait_for_more()

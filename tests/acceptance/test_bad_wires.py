"""Under load, the wire to MongoDB is slow, cut or dead, or mongod dies at the worst moment."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.chaos.cluster import SETTINGS, WINDOW_MINUTES
from tests.chaos.load import Load, open_database
from tests.chaos.replica_set import ReplicaSet
from tests.support.tcp_proxy import TcpProxy
from tests.support.web_server import WebServer

# What Meta waits; ours are 3.2 s, on a machine that runs nothing else.
MOST_SECONDS = 5.0
MODES = ("slow", "hold", "cut", "lose reply", "half open", "refuse")


class Bench(NamedTuple):
    replica_set: ReplicaSet
    proxy: TcpProxy
    load: Load


@contextmanager
def counted_exactly(directory: Path) -> Iterator[Bench]:
    """Load on a server whose only way to mongod is a proxy; afterwards it is counted again."""
    with (
        ReplicaSet(directory, size=1) as replica_set,
        open_database(replica_set.uri) as database,
        TcpProxy(replica_set.members[0].port) as proxy,
    ):
        uri = f"mongodb://127.0.0.1:{proxy.port}/runs?directConnection=true"
        with WebServer(directory, uri=uri, threads=16, **SETTINGS) as server:
            with Load([server.url], database, seed=1, connections=8, rate=100.0) as load:
                load.wait_for_more(60)
                yield Bench(replica_set, proxy, load)
                load.wait_for_more(60)
            load.resend()
            assert load.recount(window=timedelta(minutes=WINDOW_MINUTES)) == []
        assert load.answers.keys() <= {"200", "503"}
        assert load.slowest < MOST_SECONDS


def test_whatever_the_wire_does_every_event_counts_once(tmp_path: Path) -> None:
    with counted_exactly(tmp_path) as bench:
        for mode in MODES:
            with bench.proxy.acting(mode):
                time.sleep(1.5 if mode in ("slow", "cut", "refuse") else 4)
            bench.load.wait_for_more(60)
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
        [member] = bench.replica_set.members
        member.kill()
        member.start()
        is_dead.set()
        bench.replica_set.wait_until_whole()
        bench.load.wait_for_more(60)

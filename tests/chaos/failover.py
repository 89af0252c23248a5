"""A replica set whose primary dies, hangs, and hands over under load."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from pymongo import MongoClient

from automations.demo.simulation import generate_deliveries
from tests.chaos.cluster import WINDOW_MINUTES, find_longest_stall
from tests.chaos.counting import ACCOUNTS, build_plan, prepare, resend, wait_for
from tests.chaos.load import Load
from tests.chaos.model import compare
from tests.chaos.replica_set import ReplicaSet
from tests.chaos.scenario import Scenario, print_figures, print_wrong, say
from tests.support.recount import recount
from tests.support.web_server import SECRET, WebServer

CONNECTIONS = 24
RATE = 200.0
# MongoDB has 3 s of an answer; the rest is the way there and back.
MOST_SECONDS = 3.2
# How long a primary hangs: the others elect another one meanwhile, and it finds itself deposed.
HANG_SECONDS = 5.0

Document = dict[str, Any]
Blow = Callable[[ReplicaSet], None]


def kill(replica_set: ReplicaSet) -> None:
    """Kill -9 the primary; it comes back once another one is elected."""
    primary = replica_set.get_primary()
    primary.kill()
    replica_set.get_primary()
    primary.start()


def step_down(replica_set: ReplicaSet) -> None:
    """Let the primary hand over."""
    replica_set.step_down()


def hang(replica_set: ReplicaSet) -> None:
    """Stop the primary in its tracks until it was replaced; what it took alone is rolled back."""
    primary = replica_set.get_primary()
    primary.stop_in_its_tracks()
    time.sleep(HANG_SECONDS)
    primary.go_on()


BLOWS: dict[str, Blow] = {"kill": kill, "step down": step_down, "hang": hang}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare how much of it."""
    parser.add_argument("--elections", type=int, default=30)
    parser.add_argument("--most-seconds", type=float, default=MOST_SECONDS, help="to an answer")


def run(directory: Path, options: Namespace) -> bool:
    """Do one run in the directory; return whether all was answered in time and counted right."""
    window = {"TRACKING_DEDUP_WINDOW_MINUTES": str(WINDOW_MINUTES)}
    with (
        ReplicaSet(directory) as replica_set,
        MongoClient[Document](replica_set.uri, tz_aware=True, w="majority") as client,
    ):
        database = client.get_default_database()
        automations = prepare(database)
        servers = [
            WebServer(directory, uri=replica_set.uri, name=f"web-{number}", threads=32, **window)
            for number in (1, 2)
        ]
        with servers[0], servers[1]:
            load = Load(
                generate_deliveries(build_plan(options.seed)), [one.url for one in servers],
                SECRET, connections=CONNECTIONS, rate=RATE,
            )  # fmt: skip
            load.start()
            try:
                struck = strike_all(replica_set, load, options)
            finally:
                load.stop()
            resend(load, [one.url for one in servers], options.seed)
        length = timedelta(minutes=WINDOW_MINUTES)
        verdict = compare(load.acknowledged.values(), automations, database, window=length)
        broken = recount(database, window=length, at=datetime.now(UTC))
    rude = [*load.rude_answers, *(["no answer"] if load.answers["none"] else [])]
    late = [f"an answer took {load.slowest:.2f} s"] * (load.slowest > options.most_seconds)
    print_wrong([*verdict.lost, *verdict.double, *broken, *rude, *late])
    stall = find_longest_stall(load.acknowledged_at, load.started_at, load.ended_at)
    print_figures({
        "elections": ", ".join(f"{name} {struck.count(name)}" for name in BLOWS),
        "answers": ", ".join(f"{status} {n}" for status, n in sorted(load.answers.items())),
        "acknowledged": f"{len(load.acknowledged)} events of {len(ACCOUNTS)} accounts",
        "lost": len(verdict.lost),
        "double": len(verdict.double),
        "broken": f"{len(broken)} promises when counted again",
        "slowest": f"{load.slowest:.2f} s to an answer",
        "longest stall": f"{stall.seconds:.2f} s",
    })  # fmt: skip
    return not (verdict.lost or verdict.double or broken or rude or late)


def strike_all(replica_set: ReplicaSet, load: Load, options: Namespace) -> list[str]:
    """Strike again and again, each time a set that is whole; return what was done."""
    random = Random(f"failover:{options.seed}")
    struck: list[str] = []
    while len(struck) < options.elections:
        for name in random.sample(list(BLOWS), len(BLOWS))[: options.elections - len(struck)]:
            wait_for(load, len(load.acknowledged) + int(RATE))
            time.sleep(random.uniform(0.0, 0.5))
            BLOWS[name](replica_set)
            replica_set.wait_until_whole()
            struck.append(name)
            say(f"{len(struck)}/{options.elections} {name}, {len(load.acknowledged)} events")
    wait_for(load, len(load.acknowledged) + int(RATE))
    return struck


SCENARIO = Scenario("A replica set's primary dies, hangs and hands over.", add_arguments, run)

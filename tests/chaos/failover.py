"""A replica set whose primary dies, hangs, and hands over under load."""

import time
from argparse import Namespace
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from random import Random

from tests.chaos.cluster import SETTINGS, WINDOW_MINUTES, find_longest_stall
from tests.chaos.load import Load, open_database
from tests.chaos.replica_set import ReplicaSet
from tests.chaos.scenario import Scenario, print_figures, print_wrong, say, summarize_broken
from tests.support.web_server import WebServer

CONNECTIONS = 24
RATE = 200.0
# MongoDB has 3 s of an answer; the rest is the way there and back.
MOST_SECONDS = 3.2
# How long a primary hangs: the others elect another one meanwhile, and it finds itself deposed.
HANG_SECONDS = 5.0


def kill(replica_set: ReplicaSet) -> None:
    """Kill -9 the primary; it comes back once another one is elected."""
    primary = replica_set.get_primary()
    primary.kill()
    replica_set.get_primary()
    primary.start()


def hang(replica_set: ReplicaSet) -> None:
    """Stop the primary in its tracks until it was replaced; what it took alone is rolled back."""
    primary = replica_set.get_primary()
    primary.stop_in_its_tracks()
    time.sleep(HANG_SECONDS)
    primary.go_on()


BLOWS: dict[str, Callable[[ReplicaSet], None]] = {
    "kill": kill,
    "step down": ReplicaSet.step_down,
    "hang": hang,
}


def run(directory: Path, options: Namespace) -> bool:
    with ReplicaSet(directory) as replica_set, open_database(replica_set.uri) as database:
        servers = [
            WebServer(directory, uri=replica_set.uri, name=f"web-{number}", threads=32, **SETTINGS)
            for number in (1, 2)
        ]
        urls = [server.url for server in servers]
        load = Load(urls, database, seed=options.seed, connections=CONNECTIONS, rate=RATE)
        with servers[0], servers[1]:
            with load:
                struck = strike_all(replica_set, load, options)
            load.resend()
            broken = load.recount(window=timedelta(minutes=WINDOW_MINUTES))
    rude = [*load.rude_answers, *(["no answer"] if load.answers["none"] else [])]
    late = [f"an answer took {load.slowest:.2f} s"] * (load.slowest > options.most_seconds)
    print_wrong([*broken, *rude, *late])
    stall = find_longest_stall(load.acknowledged_at, load.started_at, load.ended_at)
    print_figures({
        "elections": ", ".join(f"{name} {struck.count(name)}" for name in BLOWS),
        **load.build_figures(),
        **summarize_broken(broken),
        "longest stall": f"{stall.seconds:.2f} s",
    })  # fmt: skip
    return not (broken or rude or late)


def strike_all(replica_set: ReplicaSet, load: Load, options: Namespace) -> list[str]:
    random = Random(f"failover:{options.seed}")
    struck: list[str] = []
    while len(struck) < options.elections:
        for name in random.sample(list(BLOWS), len(BLOWS))[: options.elections - len(struck)]:
            load.wait_for_more(int(RATE))
            time.sleep(random.uniform(0.0, 0.5))
            BLOWS[name](replica_set)
            replica_set.wait_until_whole()
            struck.append(name)
            say(f"{len(struck)}/{options.elections} {name}, {len(load.acknowledged)} events")
    load.wait_for_more(int(RATE))
    return struck


SCENARIO = Scenario(
    "A replica set's primary dies, hangs and hands over.",
    {"elections": (30, ""), "most-seconds": (MOST_SECONDS, "to an answer")},
    run,
)

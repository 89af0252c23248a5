"""Deliveries while processes and mongod are killed: nothing is lost, nothing is counted twice."""

import time
from argparse import Namespace
from datetime import timedelta
from pathlib import Path

from tests.chaos.cluster import WINDOW_MINUTES, Cluster, find_longest_stall
from tests.chaos.faults import Faults
from tests.chaos.load import Load, open_database
from tests.chaos.scenario import Scenario, print_figures, print_wrong, say, summarize_broken
from tests.chaos.schedule import Step, build_schedule

# Enough that those who wait for a dead process's keys leave some for the others.
CONNECTIONS = 24
# Of events. After a stall there is more to do than that: what is due is sent at once.
RATE = 300.0


def run(directory: Path, options: Namespace) -> bool:
    cluster = Cluster(directory, counters=2)
    try:
        with open_database(cluster.uri) as database:
            cluster.start()
            urls = [server.url for server in cluster.servers]
            load = Load(urls, database, seed=options.seed, connections=CONNECTIONS, rate=RATE)
            faults = Faults(database.client)
            with load:
                strike_all(cluster, load, faults, options)
            load.resend()
            cluster.wait_until_thawed()
            broken = load.recount(window=timedelta(minutes=WINDOW_MINUTES))
            report(cluster, load, broken, faults_met=faults.hits)
            return not (broken or load.rude_answers)
    finally:
        cluster.stop()


def strike_all(cluster: Cluster, load: Load, faults: Faults, options: Namespace) -> None:
    steps: list[Step] = build_schedule(options.seed, options.kills)
    done, kills = 0, sum(step.kills for step in steps)
    for step in steps:
        load.wait_for(options.events * done // kills)
        cluster.wait_until_whole()
        load.wait_for_more(1)  # two blows are two stalls, not a long one
        began = time.monotonic()
        faults.begin(step.fault)
        if step.fault == "step down":
            cluster.note_outage()
        time.sleep(step.delay)
        cluster.strike(step.target, step.number, freeze_seconds=options.freeze_seconds)
        if step.target in ("mongod", "power"):
            cluster.note_outage()
        else:
            if step.fault != "none":
                time.sleep(step.delay)  # what was killed comes back into it
            faults.end()
        done += step.kills
        blow = f"{done}/{kills} {step.target} during {step.fault}"
        cluster.blows.append((began, blow))
        say(f"{blow}, {len(load.acknowledged)} events")
    load.wait_for(options.events)
    cluster.wait_until_whole()


def report(cluster: Cluster, load: Load, broken: list[str], *, faults_met: int) -> None:
    print_wrong(broken)
    between = (load.acknowledged_at, load.started_at, load.ended_at)
    stall = find_longest_stall(*between)
    own = find_longest_stall(*between, cluster.outages)
    after = max((blow for blow in cluster.blows if blow[0] <= own.began), default=(0.0, "-"))[1]
    outages = [ended - began for began, ended in cluster.outages] or [0.0]
    print_figures({
        "kills": f"{cluster.mongod_kills + cluster.process_kills + cluster.counter_kills} "
        f"(mongod {cluster.mongod_kills}, web {cluster.process_kills}, counters "
        f"{cluster.counter_kills}) and {cluster.freezes} frozen counters in "
        f"{load.ended_at - load.started_at:.0f} s",
        "faults": f"{faults_met} commands met one, those of a mongod that was killed not counted",
        "sent again": f"{len(load.put_aside)} deliveries, twice",
        **load.build_figures(),
        **summarize_broken(broken),
        "down": f"{sum(outages):.0f} s without a primary of MongoDB or any web process, "
        f"{max(outages):.1f} s at most",
        "longest stall": f"{stall.seconds:.2f} s, {own.seconds:.2f} s without what was down "
        f"(after {after})",
    })  # fmt: skip


SCENARIO = Scenario(
    "Webhooks while web servers and mongod are killed and mongod misbehaves.",
    {
        "kills": (200, ""),
        "freeze-seconds": (30.0, "of a counter"),
        "events": (100_000, "to acknowledge, at least"),
    },
    run,
)

"""Deliveries while processes and mongod are killed: nothing is lost, nothing is counted twice."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database

from automations.demo.simulation import Plan, Target, generate_deliveries, send_deliveries
from automations.demo.simulation.plan import AUTOMATION_TYPES
from tests.chaos.cluster import WINDOW_MINUTES, Cluster, find_longest_stall
from tests.chaos.faults import Faults
from tests.chaos.load import Load
from tests.chaos.model import Verdict, compare
from tests.chaos.scenario import Scenario, print_figures, print_wrong, say
from tests.chaos.schedule import Step, build_schedule
from tests.support.recount import recount
from tests.support.web_server import SECRET
from tracking.mongo.indexes import apply_finding, compare_indexes, ensure_collections, list_indexes

ACCOUNTS = ("17841400000000001", "17841400000000002", "17841400000000003")
# Enough that those who wait for a dead process's keys leave some for the others.
CONNECTIONS = 24
# Of events. After a stall there is more to do than that: what is due is sent at once.
RATE = 300.0
PATIENCE_SECONDS = 60.0

Document = dict[str, Any]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare how much of it."""
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--events", type=int, default=100_000, help="to acknowledge, at least")


def run(directory: Path, options: Namespace) -> bool:
    """Do one run in the directory and return whether every event is accounted for."""
    seed = options.seed
    cluster = Cluster(directory)
    try:
        with MongoClient[Document](cluster.uri, tz_aware=True, appname="chaos") as client:
            database = client.get_default_database()
            automations = prepare(database)
            cluster.start()
            load = Load(
                generate_deliveries(build_plan(seed)),
                [server.url for server in cluster.servers],
                SECRET,
                connections=CONNECTIONS,
                rate=RATE,
            )
            faults = Faults(client)
            started = time.monotonic()
            load.start()
            try:
                strike_all(
                    cluster, load, faults, build_schedule(seed, options.kills), options.events
                )
            finally:
                load.stop()
            resend(load, [server.url for server in cluster.servers], seed)
            window = timedelta(minutes=WINDOW_MINUTES)
            verdict = compare(load.acknowledged.values(), automations, database, window=window)
            broken = recount(database, window=window, at=datetime.now(UTC))
            report(
                cluster, load, verdict, broken,
                faults_met=faults.hits, seconds=time.monotonic() - started,
            )  # fmt: skip
            return not (verdict.lost or verdict.double or broken or load.rude_answers)
    finally:
        cluster.stop()


def prepare(
    database: Database[Document], accounts: Sequence[str] = ACCOUNTS
) -> dict[tuple[str, str], str]:
    """Create collections, indexes and automations; return these by account and kind."""
    ensure_collections(database)
    for finding in compare_indexes(database, list_indexes(timedelta(days=90))):
        apply_finding(database, finding)
    documents = [
        {
            "_id": f"{account_id}-{kind}", "workspaceId": "ws", "accountId": account_id,
            "name": kind, "type": type_, "isActive": True, "trigger": {"keywords": ["link"]},
            "mainDm": {"text": "Here"}, "totalRuns": 0, "lastRunAt": None,
            "createdAt": datetime.now(UTC), "updatedAt": datetime.now(UTC),
        }
        for account_id in accounts
        for kind, type_ in AUTOMATION_TYPES.items()
    ]  # fmt: skip
    database["automations"].insert_many(documents)
    return {(one["accountId"], one["name"]): one["_id"] for one in documents}


def build_plan(seed: int, accounts: Sequence[str] = ACCOUNTS) -> Plan:
    """Return traffic without end."""
    targets = tuple(
        Target(kind=kind, account_id=account_id, keywords=("link",))
        for account_id in accounts
        for kind in AUTOMATION_TYPES
    )
    return Plan(targets=targets, events=None, duplicates=0.3, redeliveries=0.3, seed=seed)


def strike_all(
    cluster: Cluster, load: Load, faults: Faults, steps: list[Step], events: int
) -> None:
    """Let the blows fall, spread over the events, each on a system that is whole again."""
    done, kills = 0, sum(step.kills for step in steps)
    for step in steps:
        wait_for(load, events * done // kills)
        cluster.wait_until_whole()
        wait_for(load, len(load.acknowledged) + 1)  # two blows are two stalls, not a long one
        began = time.monotonic()
        faults.begin(step.fault)
        if step.fault == "step down":
            cluster.note_outage()
        time.sleep(step.delay)
        cluster.strike(step.target, step.server)
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
    wait_for(load, events)
    cluster.wait_until_whole()


def wait_for(load: Load, events: int) -> None:
    """Return once so many events are acknowledged.

    Raises TimeoutError when nothing moves, ValueError for an answer that is never right.
    """
    seen, seen_at = -1, time.monotonic()
    while (count := len(load.acknowledged)) < events:
        if count > seen:
            seen, seen_at = count, time.monotonic()
        if load.rude_answers:
            raise ValueError(f"Answered {', '.join(load.rude_answers)}; the logs say why.")
        if time.monotonic() - seen_at > PATIENCE_SECONDS:
            raise TimeoutError(f"Nothing was acknowledged for {PATIENCE_SECONDS:.0f} s.")
        time.sleep(0.02)


def resend(load: Load, urls: Sequence[str], seed: int) -> None:
    """Send every delivery that was put aside again, twice, in another order.

    The last that were acknowledged come again too: a total whose copy could not be written after
    its commit is brought up to date by the next delivery.
    """
    again = [*load.put_aside, *load.put_aside, *load.last]
    Random(f"resend:{seed}").shuffle(again)
    report = send_deliveries(again, urls, SECRET, connections=CONNECTIONS, is_retrying=True)
    for event in report.acknowledged:
        load.acknowledged[event.account_id, event.kind, event.event_id] = event
    if report.unacknowledged:
        raise TimeoutError(f"{len(report.unacknowledged)} deliveries are never acknowledged.")


def report(
    cluster: Cluster,
    load: Load,
    verdict: Verdict,
    broken: list[str],
    *,
    faults_met: int,
    seconds: float,
) -> None:
    """Print what became of it, the worst first."""
    print_wrong([*verdict.lost, *verdict.double, *broken])
    between = (load.acknowledged_at, load.started_at, load.ended_at)
    answers = ", ".join(f"{status} {count}" for status, count in sorted(load.answers.items()))
    stall = find_longest_stall(*between)
    own = find_longest_stall(*between, cluster.outages)
    after = max((blow for blow in cluster.blows if blow[0] <= own.began), default=(0.0, "-"))[1]
    outages = [ended - began for began, ended in cluster.outages] or [0.0]
    rows = {
        "kills": f"{cluster.mongod_kills + cluster.process_kills} (mongod {cluster.mongod_kills}, "
        f"web {cluster.process_kills}) in {seconds:.0f} s",
        "faults": f"{faults_met} commands met one, those of a mongod that was killed not counted",
        "answers": answers,
        "sent again": f"{len(load.put_aside)} deliveries, twice",
        "acknowledged": f"{len(load.acknowledged)} events",
        "lost": len(verdict.lost),
        "double": len(verdict.double),
        "broken": f"{len(broken)} promises when counted again",
        "slowest": f"{load.slowest:.2f} s to an answer",
        "down": f"{sum(outages):.0f} s without a primary of MongoDB or any web process, "
        f"{max(outages):.1f} s at most",
        "longest stall": f"{stall.seconds:.2f} s, {own.seconds:.2f} s without what was down "
        f"(after {after})",
    }
    print_figures(rows)


SCENARIO = Scenario(
    summary="Webhooks while web servers and mongod are killed and mongod misbehaves.",
    add_arguments=add_arguments,
    run=run,
)

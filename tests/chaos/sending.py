"""Sending while workers and mongod are killed and Meta misbehaves: never lost, never twice."""

import time
from argparse import Namespace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from cryptography.fernet import Fernet
from pymongo import timeout
from pymongo.database import Database
from pymongo.errors import PyMongoError

from automations.demo.sandbox import Fault, Sandbox
from automations.demo.sandbox.webhooks import RETRY_SECONDS
from tests.chaos.cluster import WINDOW_MINUTES, Cluster, find_longest_stall
from tests.chaos.crowd import AUTOMATIONS, KEYWORD, Crowd
from tests.chaos.load import open_database
from tests.chaos.scenario import Scenario, print_figures, print_wrong, say
from tests.chaos.sending_model import Verdict, judge
from tests.chaos.workers import Workers
from tests.support.oracle import recount, wait_until_counted
from tests.support.waiting import wait_until
from tests.support.webhook_cases import PATH, SECRET, build_automation

WORKERS = 2
# Of a hundred calls five: some never arrive, some do and nobody hears of it.
FAULTS = {"500": 0.012, "lost": 0.015, "reset": 0.008, "slow": 0.013, "613": 0.002}
# What a call to Meta takes; enough that a kill finds some under way.
LATENCY_SECONDS = 0.15
# Every twentieth webhook comes twice; in the end all come, however long mongod was away.
DOUBLE_EVERY = 20
WEBHOOK_RETRIES = (*RETRY_SECONDS, 20.0, 20.0)
# After the last trigger: a lease has to end, a retry to come, a back-off of 613 to be over.
END_SECONDS = 600.0
_OPEN = {"$or": [
    {"state": {"$in": ["queued", "leased", "sending"]}}, {"reportAt": {"$exists": True}},
]}  # fmt: skip

Document = dict[str, Any]


class Parts(msgspec.Struct, frozen=True):
    meta: Sandbox
    crowd: Crowd
    cluster: Cluster
    workers: Workers
    database: Database[Document]


def run(directory: Path, options: Namespace) -> bool:
    account_ids = [f"1784140{number:010}" for number in range(1, options.accounts + 1)]
    key = Fernet.generate_key()
    crowd = Crowd(account_ids, seed=options.seed, rate=options.rate, triggers=options.triggers)
    with Sandbox(
        seed=options.seed, app_secret=SECRET, retry_seconds=WEBHOOK_RETRIES,
        double_every=DOUBLE_EVERY, on_received=crowd.on_received,
    ) as meta:  # fmt: skip
        crowd.meta = meta
        settings = {"INSTAGRAM_GRAPH_URL": meta.url, "FIELD_ENCRYPTION_KEYS": key.decode()}
        cluster = Cluster(directory, web_servers=1, **settings)
        workers = Workers(
            directory, uri=cluster.uri, count=WORKERS, haste=options.haste, **settings
        )
        try:
            with open_database(cluster.uri) as database:
                prepare(database, {one: meta.add_account(one) for one in account_ids}, Fernet(key))
                cluster.start()
                meta.set_webhook(cluster.servers[0].url + PATH, SECRET)
                with workers:
                    parts = Parts(meta, crowd, cluster, workers, database)
                    return carry_out(parts, options)
        finally:
            cluster.stop()


def carry_out(parts: Parts, options: Namespace) -> bool:
    meta, crowd = parts.meta, parts.crowd
    meta.faults.latency_seconds = LATENCY_SECONDS
    meta.faults.set_shares(FAULTS)
    with crowd:
        strike_all(parts, options)
        wait_for(lambda: len(crowd.event_ids) >= options.triggers, "the last trigger")
        ended_at = time.monotonic()
        # What is left meets faults too, but no account is told any more to wait for minutes.
        meta.faults.set_shares({name: share for name, share in FAULTS.items() if name != "613"})
        wait_for(lambda: is_settled(parts), "the end of every job")
    verdict = judge(parts.database, meta.list_received(), crowd.event_ids)
    window = timedelta(minutes=WINDOW_MINUTES)
    wait_until_counted(parts.database)
    broken = recount(parts.database, window=window)
    refused = meta.answers["messages", 613] + meta.answers["profile", 613]
    refused += meta.answers["replies", 613]
    if refused > meta.faults.made[Fault.RATE]:
        broken.append(f"{refused} calls were refused for a limit")
    if meta.webhook_counts["dropped"]:
        broken.append(f"{meta.webhook_counts['dropped']} webhooks were given up")
    print_wrong([*verdict.twice, *verdict.lost, *broken])
    allowed = sum(meta.faults.made.values()) + parts.workers.in_flight
    report(parts, verdict, broken, allowed=allowed, ended_at=ended_at)
    return not (verdict.twice or verdict.lost or broken or verdict.unknown > allowed)


def prepare(database: Database[Document], tokens: dict[str, str], fernet: Fernet) -> None:
    at = datetime.now(UTC)
    database["accounts"].insert_many([
        {
            "_id": account_id, "workspaceId": "ws1", "state": "active", "createdAt": at,
            "token": fernet.encrypt(token.encode()).decode(),
        }
        for account_id, token in tokens.items()
    ])  # fmt: skip
    keywords = {"keywords": [KEYWORD]}
    database["automations"].insert_many(
        build_automation(f"{one}-{name}", accountId=one, trigger=keywords, **parts)
        for one in tokens
        for name, parts in AUTOMATIONS.items()
    )


def strike_all(parts: Parts, options: Namespace) -> None:
    random = Random(f"sending:{options.seed}")
    blows = ["worker"] * options.worker_kills + ["mongod"] * options.mongod_kills
    random.shuffle(blows)
    for done, target in enumerate(blows):
        due = options.triggers * done // len(blows)
        wait_for(lambda due=due: len(parts.crowd.event_ids) >= due, f"trigger {due}")
        time.sleep(random.uniform(0, 0.2))
        if target == "mongod":
            parts.cluster.wait_until_whole()
            parts.workers.note_outage()
            parts.cluster.strike("mongod", 0)
            parts.cluster.note_outage()
        else:
            parts.workers.kill_one(random.randrange(WORKERS), parts.database)
        if target == "mongod" or not done % 50:
            say(f"{done + 1}/{len(blows)} {target}, {len(parts.crowd.event_ids)} triggers, "
                f"{len(parts.crowd.received_at)} sent")  # fmt: skip


def is_settled(parts: Parts) -> bool:
    if not (parts.crowd.is_done and parts.meta.wait_for_webhooks(1.0)):
        return False
    try:
        with timeout(5):
            is_open = parts.database["automation_triggers"].find_one(_OPEN, {"_id": 1}) is not None
    except PyMongoError:
        return False
    # A message that went out in between may have made somebody tap.
    return not is_open and parts.crowd.is_done and parts.meta.wait_for_webhooks(0)


def wait_for(is_so: Any, what: str) -> None:
    wait_until(is_so, seconds=END_SECONDS, what=lambda: what)


def report(
    parts: Parts, verdict: Verdict, broken: list[str], *, allowed: int, ended_at: float
) -> None:
    crowd, made = parts.crowd, parts.meta.faults.made
    moments = [at for at in crowd.received_at if at <= ended_at]
    own = find_longest_stall(moments, crowd.started_at, ended_at, parts.cluster.outages)
    stall = find_longest_stall(moments, crowd.started_at, ended_at)
    kinds = ", ".join(f"{fault.value} {count}" for fault, count in sorted(
        made.items(), key=lambda item: item[0].value))  # fmt: skip
    calls = sum(parts.meta.answers.values())
    print_figures({
        "triggers": f"{len(crowd.event_ids)} of {crowd.people} people, "
        f"in {ended_at - crowd.started_at:.0f} s, the last job ended "
        f"{time.monotonic() - ended_at:.0f} s later",
        "kills": f"{parts.workers.kills} of workers, {parts.cluster.mongod_kills} of mongod",
        "faults": f"{sum(made.values())} of {calls} calls ({kinds})",
        "sent": f"{len(crowd.received_at)} messages",
        "twice": len(verdict.twice),
        "lost": len(verdict.lost),
        "unknown": f"{verdict.unknown}, allowed {allowed} (faults, and {parts.workers.in_flight} "
        "sends in flight at a kill)",
        "broken": f"{len(broken)} promises when counted again",
        "longest stall": f"{stall.seconds:.2f} s, {own.seconds:.2f} s without mongod's absence",
    })  # fmt: skip


SCENARIO = Scenario(
    "Messages while workers and mongod are killed and Meta's API fails now and then.",
    {
        "worker-kills": (500, ""),
        "mongod-kills": (20, ""),
        "triggers": (20_000, ""),
        "accounts": (200, ""),
        "rate": (42.0, "triggers a second"),
        "haste": (1.0, "divides the waits of a worker"),
    },
    run,
)

"""Two server processes, one killed with -9 under load and started again: exact all the same.

The traffic is that of `simulate`, with duplicates and redeliveries; everything is counted again
from the raw documents afterwards.
"""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from bson import ObjectId
from pymongo.database import Database

from automations.demo.simulation import Plan, generate_deliveries
from automations.demo.simulation.plan import KINDS, build_targets
from tests.chaos.load import open_database
from tests.support.oracle import recount
from tests.support.processes import build_environment, running
from tests.support.waiting import wait_until
from tests.support.web_server import WebServer
from tests.support.webhook_cases import ACCOUNTS, TYPES, build_automation
from tracking.ids import build_trigger_id

EVENTS, SEED = 5000, 20261123
EARLIER_RUNS = 7
# Slow enough that the killed process is back before the load ends.
RATE = 700
KEYWORDS = {TYPES[0]: ["link", "lookbook"], TYPES[1]: ["early"], TYPES[2]: ["price", "how much"]}

TRACKED = re.compile(r"✅ \[TRACKING\] Automation run tracked: (\S+) \((\w+)\)")
SKIPPED = re.compile(r"ℹ️ \[TRACKING\] Duplicate run skipped for user (\S+)")
Db = Database[dict[str, Any]]


def build_automations() -> list[dict[str, Any]]:
    """One automation of each type for two accounts, ids of both sorts, some runs from before."""
    return [
        build_automation(
            ObjectId() if account_id == ACCOUNTS[0] else f"text-{type_}",
            accountId=account_id,
            type=type_,
            trigger={"keywords": KEYWORDS[type_]},
            commentReply={"texts": ["Sent!"]},
            totalRuns=EARLIER_RUNS,
        )
        for account_id in ACCOUNTS
        for type_ in TYPES
    ]


def run_load(directory: Path, uri: str, database: Db) -> tuple[dict[str, Any], list[str]]:
    with (
        WebServer(directory, uri=uri, name="one") as one,
        WebServer(directory, uri=uri, name="two") as two,
    ):
        arguments = (
            "simulate", "--events", str(EVENTS), "--seed", str(SEED), "--duplicates", "0.3",
            "--redeliveries", "0.3", "--bad-signatures", "0.02", "--rate", str(RATE),
            "--connections", "8", "--retry", "--json", "--url", one.url, "--url", two.url,
        )  # fmt: skip
        with running(*arguments, environment=build_environment(MONGODB_URI=uri)) as load:
            triggers = database["automation_triggers"]
            wait_until(lambda: triggers.estimated_document_count() >= EVENTS // 5, seconds=60)
            two.kill()
            two.start()
            two.wait_until_ready()
            assert load.process.poll() is None, "the load was over before the process came back"
            assert load.wait(seconds=60) == 0, load.output
    return json.loads(load.lines[-1]), [*one.list_messages(), *two.list_messages()]


def list_expected(database: Db) -> set[str]:
    targets = build_targets(database["automations"].find())
    plan = Plan(targets=targets, events=EVENTS, bad_signatures=0.02, seed=SEED)
    return {
        build_trigger_id(event.account_id, event.kind, event.event_id)
        for delivery in generate_deliveries(plan)
        for event in delivery.events
        if event.is_match and not delivery.is_forged
    }


def assert_log_lines_of_the_contract(database: Db, messages: list[str]) -> None:
    said = [one for one in messages if "[TRACKING]" in one]
    tracked = Counter(found.groups() for one in said if (found := TRACKED.fullmatch(one)))
    skipped = Counter(found[1] for one in said if (found := SKIPPED.fullmatch(one)))
    others = [one for one in said if not (TRACKED.fullmatch(one) or SKIPPED.fullmatch(one))]
    assert [one for one in others if not one.startswith(("❌ [TRACKING] ", "⚠️ [TRACKING] "))] == []
    runs = Counter(
        (one["automationId"], one["triggerType"]) for one in database["automation_runs"].find()
    )
    duplicates = Counter(
        one["userId"] for one in database["automation_triggers"].find({"outcome": "duplicate"})
    )
    # Nothing is said that is not so, and only what the kill cut off is missing.
    assert (tracked - runs, skipped - duplicates) == (Counter(), Counter())
    assert tracked.total() + skipped.total() >= (runs.total() + duplicates.total()) - 1000


def test_a_process_killed_under_load_loses_nothing_and_counts_nothing_twice(
    own_mongodb_uri: str, tmp_path: Path
) -> None:
    with open_database(own_mongodb_uri) as database:
        database["automations"].insert_many(build_automations())
        report, messages = run_load(tmp_path, own_mongodb_uri, database)
        assert (report["events"]["sent"], report["events"]["acknowledged"]) == (EVENTS, EVENTS)
        assert report["events"]["posted"] > EVENTS * 1.1
        assert all(report["kinds"][kind]["sent"] for kind in KINDS)
        assert report["forged"]["sent"] > 0
        assert report["forged"]["accepted"] == 0
        assert report["statuses"] == {"200": report["deliveries"]}
        assert report["automations"]

        assert set(database["automation_triggers"].distinct("_id")) == list_expected(database)
        outcomes = set(database["automation_triggers"].distinct("outcome"))
        assert outcomes == {"counted", "duplicate"}
        assert recount(database) == []
        runs = Counter(one["automationId"] for one in database["automation_runs"].find())
        for automation in database["automations"].find():
            assert automation["totalRuns"] == EARLIER_RUNS + runs[str(automation["_id"])]
        assert_log_lines_of_the_contract(database, messages)

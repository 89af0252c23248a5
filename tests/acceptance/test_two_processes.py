"""Two server processes, one killed with -9 under load and started again: exact all the same.

The traffic is that of `simulate`, with duplicates and redeliveries; everything is counted again
from the raw documents afterwards.
"""

import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.database import Database

from automations.demo.simulation import Plan, SimulatedEvent, generate_deliveries
from automations.demo.simulation.plan import KINDS
from automations.demo.simulation.targets import build_targets
from tests.support.recount import recount
from tests.support.web_server import WebServer, start_command
from tests.support.webhook_cases import ACCOUNTS, TYPES, build_automation
from tracking.conf import conf
from tracking.embedded import server as embedded
from tracking.ids import build_trigger_id
from tracking.mongo.indexes import apply_finding, compare_indexes, ensure_collections, list_indexes

EVENTS, SEED = 5000, 20261123
EARLIER_RUNS = 7
# Slow enough that the killed process is back before the load ends.
RATE = 700
KEYWORDS = {TYPES[0]: ["link", "lookbook"], TYPES[1]: ["early"], TYPES[2]: ["price", "how much"]}

TRACKED = re.compile(r"✅ \[TRACKING\] Automation run tracked: (\S+) \((\w+)\)")
SKIPPED = re.compile(r"ℹ️ \[TRACKING\] Duplicate run skipped for user (\S+)")


class Aftermath(NamedTuple):
    """What is left when the load is over and the servers are gone."""

    database: Database[dict[str, Any]]
    report: dict[str, Any]
    messages: list[str]


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


def wait_for_triggers(database: Database[dict[str, Any]], count: int) -> None:
    deadline = time.monotonic() + 60
    while database["automation_triggers"].estimated_document_count() < count:
        assert time.monotonic() < deadline, "the load does not get through"
        time.sleep(0.01)


def start_load(uri: str, urls: list[str]) -> subprocess.Popen[str]:
    shares = ("--duplicates", "0.3", "--redeliveries", "0.3", "--bad-signatures", "0.02")
    pace = ("--rate", str(RATE), "--connections", "8", "--retry", "--json")
    addresses = [part for url in urls for part in ("--url", url)]
    amount = ("--events", str(EVENTS), "--seed", str(SEED))
    return start_command("simulate", *amount, *shares, *pace, *addresses, uri=uri)


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aftermath]:
    directory = tmp_path_factory.mktemp("two-processes")
    uri = embedded.ensure_running(directory / "data")
    try:
        with MongoClient[dict[str, Any]](uri, tz_aware=True) as client:
            database = client.get_default_database()
            ensure_collections(database)
            for finding in compare_indexes(database, list_indexes(conf.retention)):
                apply_finding(database, finding)
            database["automations"].insert_many(build_automations())
            yield run_load(directory, uri, database)
    finally:
        embedded.stop(directory / "data")


def run_load(directory: Path, uri: str, database: Database[dict[str, Any]]) -> Aftermath:
    with (
        WebServer(directory, uri=uri, name="one") as one,
        WebServer(directory, uri=uri, name="two") as two,
    ):
        load = start_load(uri, [one.url, two.url])
        try:
            wait_for_triggers(database, EVENTS // 5)
            two.kill()
            two.start()
            two.wait_until_ready()
            is_on_the_way = load.poll() is None
            printed, said = load.communicate(timeout=60)
        finally:
            load.kill()
        assert is_on_the_way, "the load was over before the killed process came back"
        assert load.returncode == 0, said + printed
    messages = [*one.list_messages(), *two.list_messages()]
    return Aftermath(database, json.loads(printed), messages)


def list_expected(database: Database[dict[str, Any]]) -> list[SimulatedEvent]:
    """The events that the load was made of and that an automation answers, made again."""
    plan = Plan(
        targets=build_targets(database["automations"].find(), kinds=KINDS),
        events=EVENTS,
        duplicates=0.3,
        redeliveries=0.3,
        bad_signatures=0.02,
        seed=SEED,
    )
    deliveries = [one for one in generate_deliveries(plan) if not one.is_forged]
    events = {event.event_id: event for one in deliveries for event in one.events}
    return [event for event in events.values() if event.is_match]


def assert_everything_was_acknowledged(aftermath: Aftermath) -> None:
    events = aftermath.report["events"]
    assert (events["sent"], events["acknowledged"]) == (EVENTS, EVENTS)
    assert events["posted"] > EVENTS * 1.1
    assert aftermath.report["forged"]["sent"] > 0
    assert aftermath.report["forged"]["accepted"] == 0
    assert aftermath.report["statuses"] == {"200": aftermath.report["deliveries"]}


def assert_the_promises_hold(aftermath: Aftermath) -> None:
    assert recount(aftermath.database) == []


def assert_one_trigger_for_each_event(aftermath: Aftermath) -> None:
    expected = {
        build_trigger_id(event.account_id, event.kind, event.event_id)
        for event in list_expected(aftermath.database)
    }
    stored = {one["_id"] for one in aftermath.database["automation_triggers"].find({}, {"_id": 1})}
    assert (expected - stored, stored - expected) == (set(), set())
    outcomes = set(aftermath.database["automation_triggers"].distinct("outcome"))
    assert outcomes == {"counted", "duplicate"}


def assert_automations_show_every_run(aftermath: Aftermath) -> None:
    runs = Counter(one["automationId"] for one in aftermath.database["automation_runs"].find())
    for automation in aftermath.database["automations"].find():
        assert automation["totalRuns"] == EARLIER_RUNS + runs[str(automation["_id"])]


def assert_log_lines_of_the_contract(aftermath: Aftermath) -> None:
    database = aftermath.database
    said = [one for one in aftermath.messages if "[TRACKING]" in one]
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
    aftermath: Aftermath,
) -> None:
    # One test: each worker of a parallel run would make the load again for its own.
    assert_everything_was_acknowledged(aftermath)
    assert_one_trigger_for_each_event(aftermath)
    assert_the_promises_hold(aftermath)
    assert_automations_show_every_run(aftermath)
    assert_log_lines_of_the_contract(aftermath)

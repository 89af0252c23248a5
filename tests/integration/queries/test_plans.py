from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.monitoring import CommandStartedEvent

from tests.integration.conftest import Db, MakeTracker, Recorder, explain
from tests.support.commands import run_command
from tests.support.tracker import Tracker
from tests.support.triggers import MILLISECOND, make_people, make_run, make_trigger
from tracking.clock import read_now
from tracking.ids import partition_of
from tracking.maintenance.contacts import ContactStore
from tracking.maintenance.drift_store import DriftStore
from tracking.maintenance.status import read_waiting
from tracking.queries.run_filters import RunFilter
from tracking.queries.run_store import RunStore
from tracking.queries.series import read_counts
from tracking.queries.stats import StatsStore, build_pending_pipeline, list_recent_hours
from tracking.queries.time_grid import Unit, build_grid
from tracking.rollups.folding import Folder
from tracking.rollups.rebuild import HourRebuilder

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOW = read_now()
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
AUTOMATIONS = [f"a{number}" for number in range(30)]
# The others are small, or read as a whole on purpose.
LARGE = (
    "automation_runs", "automation_contacts", "automation_triggers", "automation_run_stats",
    "automation_hours",
)  # fmt: skip
MOST_PER_RETURNED, FREE = 10, 100


@pytest.fixture
def filled(db: Db, make_tracker: MakeTracker) -> Db:
    """Runs of thirty automations over twenty days, and triggers that wait and that are done."""
    db["automations"].insert_many(
        {"_id": one, "accountId": "acc", "workspaceId": "w1", "isActive": True}
        for one in AUTOMATIONS
    )
    db["automation_runs"].insert_many(
        make_run(AUTOMATIONS[n % 30], NOW - n * HOUR / 6, userId=f"u{n % 700}") for n in range(3000)
    )
    run_command("add_run_fields")
    tracker = make_tracker(db)
    for automation_id in AUTOMATIONS:
        tracker.store(*make_people(20, automation_id=automation_id, arrived_at=NOW - 3 * HOUR))
    tracker.count()
    tracker.store(*make_people(40, automation_id="a1", arrived_at=NOW))
    tracker.close()
    return db


def read_series(db: Db, unit: Unit) -> None:
    grid = build_grid(unit, zone=UTC, from_=NOW - 3 * DAY, to=NOW)
    read_counts(db, AUTOMATIONS[:3], grid, at=NOW, retention=90 * DAY, has_outcomes=True, seconds=5)


def read_pages(db: Db) -> None:
    store = RunStore(db)
    of_one = RunFilter(workspace_id="w1", automation_id="a1")
    first = store.list_page(of_one, limit=5, cursor=None)
    store.list_page(of_one, limit=5, cursor=first.next_cursor)
    store.list_page(RunFilter(workspace_id="w1"), limit=5, cursor=first.next_cursor)
    store.find("w1", str(first.runs[0]["_id"]))


def measure(db: Db) -> None:
    DriftStore(db, now=NOW).measure("a1", "a1", since=NOW - 2 * DAY)
    list(ContactStore(db).compare("a1", newest=20, oldest=NOW - 90 * DAY))


READS: dict[str, Callable[[Db], Any]] = {
    "list": lambda db: StatsStore(db).summarize(
        [{"_id": one} for one in AUTOMATIONS], at=NOW, wait_seconds=0
    ),
    "recent hours": lambda db: list_recent_hours(db, AUTOMATIONS),
    "hours of a chart": lambda db: read_series(db, Unit.HOUR),
    "days of a chart": lambda db: read_series(db, Unit.DAY),
    "pages of runs": read_pages,
    "what waits": lambda db: read_waiting(db, now=NOW),
    "verification": measure,
    "rebuild": lambda db: HourRebuilder(db, now=NOW, oldest=NOW - 30 * DAY).rebuild("a1"),
    "fold": lambda db: Folder(db).fold("a1", now=NOW),
}


def test_every_read_uses_its_index(filled: Db, recorded_db: Db, recorder: Recorder) -> None:
    for name, read in READS.items():
        recorder.events.clear()
        read(recorded_db)
        check_plans(filled, recorder, name)
    recorder.events.clear()
    tracker = Tracker(recorded_db)
    tracker.count()
    tracker.close()
    assert filled["automation_triggers"].count_documents({"partition": {"$exists": True}}) == 0
    check_plans(filled, recorder, "a batch")


def test_what_waits_of_other_automations_costs_nothing(db: Db, make_tracker: MakeTracker) -> None:
    """Others of the same partition, at as many times."""
    others = [
        make_trigger(automation_id="a1", arrived_at=NOW - n * MILLISECOND) for n in range(900)
    ]
    same = [name for name in map(str, range(99)) if partition_of(name) == partition_of("a1")]
    make_tracker(db).store(*others, *make_people(3, automation_id=same[0]))
    pipeline = build_pending_pipeline(same, before=NOW)
    command = {"aggregate": "automation_triggers", "pipeline": pipeline, "cursor": {}}
    plan = db.command("explain", command, verbosity="executionStats")
    examined = [one for one in walk(plan) if "totalKeysExamined" in one]
    assert max(one["totalKeysExamined"] for one in examined) <= 20
    assert {one["totalDocsExamined"] for one in examined} == {0}


SENDING: dict[str, dict[str, Any]] = {
    "jobs that are due": {"send.via": "comment", "accountId": "x", "nextAt": {"$lte": NOW}},
    "jobs that are overdue": {
        "send.via": "comment", "accountId": "x", "nextAt": {"$gt": LONG_AGO},
        "send.windowEndsAt": {"$lte": NOW},
    },
    "leases that ran out": {"lease.until": {"$lte": NOW}},
    "messages on their way": {
        "accountId": "x", "userId": "x", "sendingAt": {"$gt": LONG_AGO},
    },
    "message by its id": {"mids": "x"},
    "outcomes to tell": {"reportAt": {"$lte": NOW}},
    "taps that continue a trigger": {"continues": {"$in": ["x"]}},
    "duplicates of a run": {"runId": "x", "outcome": "duplicate"},
}  # fmt: skip


def test_sending_looks_into_its_indexes(filled: Db) -> None:
    for name, query in SENDING.items():
        command = {"find": "automation_triggers", "filter": query}
        plan = filled.command("explain", command, verbosity="executionStats")
        assert plan["executionStats"]["totalDocsExamined"] == 0, name


def check_plans(db: Db, recorder: Recorder, name: str) -> None:
    checked = 0
    for event in list(recorder.events):
        collection = event.command.get(event.command_name)
        if event.command_name in ("find", "aggregate") and collection in LARGE:
            check_plan(db, event)
            checked += 1
    assert checked, name


def check_plan(db: Db, event: CommandStartedEvent) -> None:
    plan = explain(db, event)
    stages = {part["stage"] for part in walk(plan) if isinstance(part.get("stage"), str)}
    assert "COLLSCAN" not in stages, event.command
    if event.command_name == "find":
        stats = plan["executionStats"]
        most = max(FREE, MOST_PER_RETURNED * stats["nReturned"])
        assert stats["totalDocsExamined"] <= most, event.command


def walk(part: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every document inside, not the plans that were rejected."""
    if isinstance(part, Mapping):
        yield part
        for name, inner in part.items():
            if name not in ("rejectedPlans", "command", "parsedQuery"):
                yield from walk(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from walk(inner)

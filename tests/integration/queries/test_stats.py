"""Statistics equal a count of the runs at the same instant, and cost the same for any number."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from bson import ObjectId
from pymongo.monitoring import CommandStartedEvent

from tests.conftest import prepare
from tests.integration.conftest import Db, Recorder, explain, flow
from tests.support.api_client import build_automation, build_run
from tests.support.commands import run_command
from tests.support.oracle import recount
from tests.support.tracker import Tracker
from tests.support.triggers import MILLISECOND, T0, WINDOW, make_people, make_run, make_trigger
from tracking import reports, service
from tracking.clock import read_now
from tracking.counting.switch import SwitchState, write_switch
from tracking.queries.run_filters import RunFilter
from tracking.queries.stats import RunSummaries, RunSummary, StatsStore, find_pending
from tracking.queries.time_grid import Unit
from tracking.rollups.folding import Folder
from tracking.rollups.hours import build_hour_id, build_recent, hour_of, start_of_hour
from tracking.runs import Outcome

DAY, WEEK = timedelta(hours=24), timedelta(days=7)
MINUTE = timedelta(minutes=1)


def summarize(db: Db, *automation_ids: Any, at: datetime) -> list[RunSummary]:
    found = {one["_id"]: one for one in db["automations"].find()}
    documents = [found.get(one, {"_id": one}) for one in automation_ids]
    summaries = StatsStore(db).summarize(documents, at=at).by_automation
    return [summaries[str(one)] for one in automation_ids]


def count(db: Db, automation_id: str, at: datetime, window: timedelta) -> int:
    """The definition of I8."""
    since = {"createdAt": {"$gte": at - window}}
    return db["automation_runs"].count_documents({"automationId": automation_id, **since})


def check_windows(db: Db, at: datetime, *automation_ids: str) -> None:
    for automation_id, shown in zip(
        automation_ids, summarize(db, *automation_ids, at=at), strict=True
    ):
        expected = (count(db, automation_id, at, DAY), count(db, automation_id, at, WEEK))
        assert (shown.last_24_hours, shown.last_7_days) == expected, (automation_id, at)


def scatter_runs(chance: random.Random, at: datetime, number: int) -> list[datetime]:
    """Return times of runs: half of them within two minutes of a window's edge, or of its ends."""
    times = []
    for _ in range(number):
        edge = at - chance.choice([DAY, WEEK, timedelta(0)])
        spread = chance.choice([3, 500, 61_000, 120_000, 3_600_000, 40 * 3_600_000])
        times.append(edge + chance.randint(-spread, spread) * MILLISECOND)
    return times


@pytest.mark.parametrize("seed", range(4))
def test_windows_equal_a_count_around_both_edges_before_and_after_folding(
    db: Db, tracker: Tracker, seed: int
) -> None:
    """I8: with a base and without, folded and not, at many instants."""
    chance = random.Random(seed)
    # Half a minute, a full minute, a full hour and anything.
    now = chance.choice([T0, T0.replace(second=30), start_of_hour(hour_of(T0)), T0 + 7 * MINUTE])
    db["automations"].insert_many([{"_id": "a1", "totalRuns": 50}, {"_id": "a2"}])
    for person, at in enumerate(scatter_runs(chance, now, 120)):
        trigger = make_trigger(
            automation_id=chance.choice(["a1", "a2"]), user_id=f"p{person}", arrived_at=at
        )
        assert tracker.record(trigger) == [Outcome.COUNTED]
        if person in (40, 80):
            Folder(db).fold_all(now=now)
    instants = [now, now + MILLISECOND, now - MILLISECOND, now + 30 * MINUTE, now - 2 * MINUTE]
    instants += [now + chance.randint(-90_000, 90_000) * MILLISECOND for _ in range(15)]
    for at in instants:
        check_windows(db, at, "a1", "a2")
    assert recount(db, at=now) == []
    Folder(db).fold_all(now=now)
    for at in instants:
        check_windows(db, at, "a1", "a2")
    assert recount(db, at=now) == []


def test_rollups_that_start_inside_the_window(db: Db, tracker: Tracker) -> None:
    """An automation with earlier runs: before `add_run_fields`, only newer windows use rollups."""
    chance = random.Random(5)
    now = read_now()
    times = enumerate(scatter_runs(chance, now, 60))
    earlier = [make_run("a1", at, userId=f"old{number}") for number, at in times]
    db["automation_runs"].insert_many(earlier)
    tracker.record(make_trigger(arrived_at=now))
    base = db["automation_run_stats"].find_one({"_id": "a1:b"}) or {}
    assert base["rollupsSince"] >= now
    for person in range(20):
        at = now + timedelta(days=2) + chance.randint(0, 10**8) * MILLISECOND
        tracker.record(make_trigger(user_id=f"p{person}", arrived_at=at))
    for later in range(0, 12 * 24, 7):
        check_windows(db, now + timedelta(hours=later), "a1")
    # The instant itself: an earlier run may lie in that very millisecond.
    since = base["rollupsSince"]
    db["automation_runs"].insert_one(make_run("a1", since, userId="at that instant"))
    for at in (since - MILLISECOND, since, since + MILLISECOND):
        check_windows(db, at + DAY, "a1")
        check_windows(db, at + WEEK, "a1")


def test_runs_without_any_total_document_are_counted(db: Db) -> None:
    key = ObjectId()
    runs = [make_run(str(key), T0 - offset) for offset in (MINUTE, DAY, 2 * DAY, WEEK, 2 * WEEK)]
    db["automation_runs"].insert_many(runs)
    db["automations"].insert_one({"_id": key, "totalRuns": 9, "lastRunAt": T0 - MINUTE})
    db["automations"].insert_one({"_id": "text", "totalRuns": "9", "lastRunAt": None})
    assert summarize(db, key, "text", at=T0) == [
        RunSummary(9, T0 - MINUTE, 2, 4),
        RunSummary(9, None, 0, 0),
    ]


def test_totals_and_the_newest_run(db: Db, tracker: Tracker) -> None:
    automations = [{"_id": "a1", "totalRuns": 7}, {"_id": "a2", "totalRuns": 3, "lastRunAt": T0}]
    db["automations"].insert_many(automations)
    later = T0 + WINDOW
    tracker.record(*make_people(3, arrived_at=later))
    tracker.record(make_trigger(arrived_at=T0))
    # The totals, not the documents that were read a moment ago.
    assert summarize(db, "a1", "a2", at=later) == [
        RunSummary(10, later, 3, 3),
        RunSummary(3, T0, 0, 0),
    ]
    found = service.summarize_runs(automations, at=later, has_windows=False).by_automation
    totals = {name: (one.total_runs, one.last_run_at) for name, one in found.items()}
    assert totals == {"a1": (10, later), "a2": (3, T0)}
    assert StatsStore(db).summarize([], at=T0) == RunSummaries(T0, 0, {})


def examine(db: Db, event: CommandStartedEvent) -> int:
    """Return how many documents and keys a recorded read makes the server look at."""
    plan = explain(db, event)
    stages = plan.get("stages", [{"$cursor": plan}])
    stats = (stages[0].get("$cursor") or plan)["executionStats"]
    return int(stats["totalDocsExamined"] + stats["totalKeysExamined"])


def list_reads(recorder: Recorder) -> list[CommandStartedEvent]:
    """Return the reads of one answer; the first also says what is pending."""
    first, *others = recorder.events
    assert "automation_triggers" in str(first.command)
    assert not [one for one in others if "automation_triggers" in str(one.command)]
    return [first, *others]


def test_the_cost_of_a_read_does_not_depend_on_the_number_of_runs(
    db: Db, recorded_db: Db, tracker: Tracker, recorder: Recorder
) -> None:
    """I9: the same commands over the same documents; only the minutes cut by an edge are runs."""
    costs = []
    for people in (20, 400):
        for hour in range(0, 200, 20):
            at = T0 - hour * timedelta(hours=1) + MINUTE
            group = [make_trigger(user_id=f"{at} {n} of {people}", arrived_at=at)
                     for n in range(people)]  # fmt: skip
            assert tracker.record(*group) == [Outcome.COUNTED] * people
        Folder(db).fold_all(now=T0)
        recorder.events.clear()
        stats = StatsStore(recorded_db)
        shown = stats.summarize([{"_id": "a1"}], at=T0 + 2 * MINUTE).by_automation
        assert shown["a1"].last_7_days == count(db, "a1", T0 + 2 * MINUTE, WEEK)
        reads = list_reads(recorder)
        costs.append(([one.command_name for one in reads], [examine(db, one) for one in reads]))
    assert db["automation_runs"].count_documents({}) > 3000
    assert costs[0] == costs[1]
    assert costs[0][0] == ["aggregate"]


def test_a_minute_that_is_cut_is_read_from_the_index_alone(
    db: Db, recorded_db: Db, tracker: Tracker, recorder: Recorder
) -> None:
    # An array that another test stored would keep an index from covering anything.
    db["automation_runs"].drop_index("automationId_createdAt")
    prepare(db)
    tracker.record(*make_people(30, arrived_at=T0 - DAY + MILLISECOND))
    tracker.record(*make_people(300, automation_id="a2", arrived_at=T0))
    recorder.events.clear()
    documents = [{"_id": "a1"}, {"_id": "a2"}, {"_id": "a3"}]
    found = StatsStore(recorded_db).summarize(documents, at=T0).by_automation
    assert found["a1"].last_24_hours == 30
    # a3 was never met: whether it has runs is a question to them, too, but no run is looked at.
    reads = list_reads(recorder)
    assert [one.command_name for one in reads] == ["aggregate", "aggregate"]
    assert all(examine(db, one) <= 2 * 30 + 20 for one in reads)
    text = str(explain(db, reads[1]))
    assert "automationId_createdAt" in text
    assert text.count("'totalDocsExamined': 0") == text.count("'totalDocsExamined'") > 0


class TestFolding:
    def test_hour_documents_are_exact(self, db: Db, tracker: Tracker) -> None:
        hour = start_of_hour(hour_of(T0))
        for number, minute in enumerate((0, 14, 15, 59, 59)):
            at = hour + minute * MINUTE
            tracker.record(make_trigger(user_id=f"p{number}", arrived_at=at))
        tracker.record(make_trigger(user_id="p0", arrived_at=hour + 16 * MINUTE))
        now = hour + 3 * WINDOW
        tracker.record(make_trigger(user_id="p0", arrived_at=now))
        assert Folder(db).fold_all(now=now) == 1
        closed = db["automation_run_stats"].find_one({"_id": build_hour_id("a1", hour_of(T0))})
        assert closed == {
            "_id": build_hour_id("a1", hour_of(T0)), "automationId": "a1", "hour": hour, "n": 5,
            "m": {"0": 1, "14": 1, "15": 1, "59": 2}, "d": {"1": 1}, "p": {"0": 2, "1": 1, "3": 2},
        }  # fmt: skip
        base = db["automation_run_stats"].find_one({"_id": "a1:b"}) or {}
        assert base["h"] == {str(hour_of(now)): {"n": 1, "m": {"0": 1}}}
        assert {"days": base["days"], "hours": base["hours"]} == build_recent({hour_of(T0): 5})
        assert Folder(db).fold_all(now=now) == 0
        assert recount(db, at=now) == []

    def test_an_hour_is_open_for_two_minutes_after_its_end(self, db: Db, tracker: Tracker) -> None:
        tracker.record(make_trigger())
        end = start_of_hour(hour_of(T0) + 1)
        assert Folder(db).fold_all(now=end + 2 * MINUTE - MILLISECOND) == 0
        assert Folder(db).fold_all(now=end + 2 * MINUTE) == 1

    def test_hours_leave_the_base_after_eight_days(self, db: Db, tracker: Tracker) -> None:
        tracker.record(make_trigger())
        Folder(db).fold_all(now=T0 + 2 * WINDOW)
        later = T0 + timedelta(days=9)
        tracker.record(make_trigger(arrived_at=later))
        tracker.record(make_trigger(user_id="late", arrived_at=T0))
        Folder(db).fold_all(now=later + 2 * WINDOW)
        base = db["automation_run_stats"].find_one({"_id": "a1:b"}) or {}
        assert {"days": base["days"], "hours": base["hours"]} == build_recent({hour_of(later): 1})
        closed = db["automation_run_stats"].find_one({"_id": build_hour_id("a1", hour_of(T0))})
        assert (closed or {})["n"] == 2
        check_windows(db, later + WINDOW, "a1")
        assert recount(db, at=later) == []


def test_one_read_is_one_instant_while_others_write_and_fold(db: Db, make_tracker: Any) -> None:
    """Every answer equals a state that was there: windows and total move together."""
    now = read_now().replace(second=30, microsecond=0)
    db["automations"].insert_one({"_id": "a1"})
    # Half of the people fall into the minute that the edge cuts, half into an hour that is folded.
    times = [now - DAY + MILLISECOND, now - timedelta(hours=5)]
    trackers = [make_tracker(db), make_tracker(db)]
    trackers[0].record(make_trigger(user_id="first", arrived_at=now - 2 * WINDOW))

    def write(writer: int) -> None:
        for number in range(60):
            people = [
                make_trigger(user_id=f"{writer}-{number}-{one}", arrived_at=times[one % 2])
                for one in range(6)
            ]
            trackers[writer].store(*people)
            trackers[writer].count()

    def fold(_: int) -> None:
        Folder(db).fold_all(now=now)
        time.sleep(0.01)

    def read(_: int) -> tuple[RunSummary, int]:
        [summary] = summarize(db, "a1", at=now)
        bare = [{"_id": "a1"}]
        found = StatsStore(db).summarize(bare, at=now, has_windows=False, wait_seconds=0)
        assert found.by_automation["a1"].total_runs >= summary.total_runs
        return summary, (db["automations"].find_one() or {})["totalRuns"]

    with flow(fold), flow(read) as seen, ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(2)))
    assert len(seen) > 5
    for summary, _ in seen:
        assert summary.total_runs == summary.last_24_hours == summary.last_7_days
    for totals in ([summary.total_runs for summary, _ in seen], [copy for _, copy in seen]):
        assert totals == sorted(totals)
    assert summarize(db, "a1", at=now)[0].total_runs == 2 * 60 * 6 + 1
    assert recount(db, at=now) == []


def test_other_time_zones_name_the_same_instant(db: Db, tracker: Tracker) -> None:
    india = timezone(timedelta(hours=5, minutes=30))
    at = (T0 - DAY).astimezone(india)
    tracker.record(make_trigger(arrived_at=at), make_trigger(user_id="p2", arrived_at=at - MINUTE))
    assert summarize(db, "a1", at=T0.astimezone(india)) == [RunSummary(2, at, 1, 2)]
    assert recount(db, at=T0) == []


class TestPending:
    """A read waits for what arrived before it, and says how much is missing (I5)."""

    def test_what_waits_is_told_in_both_lanes(self, db: Db, tracker: Tracker) -> None:
        tracker.store(*make_people(3), make_trigger(automation_id="a2"))
        later = make_trigger(user_id="later", arrived_at=T0 + MILLISECOND)
        tracker.store(later)
        db["automation_triggers"].update_one(
            {"userId": "p1", "automationId": "a1"}, {"$bit": {"partition": {"xor": -1}}}
        )
        documents = [{"_id": "a1"}, {"_id": "a3"}]
        found = StatsStore(db).summarize(documents, at=T0, wait_seconds=0.05)
        assert (found.as_of, found.pending) == (T0, 3)
        assert found.by_automation["a1"] == RunSummary(0, None)
        assert find_pending(db, ["a1", "a2"], before=T0).all == 4
        assert find_pending(db, [], before=T0).all == 0

    def test_it_waits_a_quarter_of_a_second(self, db: Db, tracker: Tracker) -> None:
        tracker.store(make_trigger())
        started = time.monotonic()
        assert service.summarize_runs([{"_id": "a1"}], at=T0).pending == 1
        assert 0.25 <= time.monotonic() - started < 1
        # What arrives after the instant that is asked for is not waited for.
        started = time.monotonic()
        assert service.summarize_runs([{"_id": "a1"}], at=T0 - MILLISECOND).pending == 0
        assert time.monotonic() - started < 0.2

    def test_nothing_waits_while_counting_is_off(self, db: Db, tracker: Tracker) -> None:
        tracker.store(make_trigger())
        write_switch(db, "tracking", SwitchState.OFF, now=T0)
        hour: dict[str, Any] = {"from_": T0 - MINUTE, "to": T0 + MINUTE, "at": T0}
        reads: list[Callable[[], Any]] = [
            lambda: service.summarize_runs([{"_id": "a1"}], at=T0),
            lambda: reports.list_runs(
                RunFilter(workspace_id="w1"), limit=1, automation_ids=["a1"], at=T0
            ),
            lambda: reports.read_series(["a1"], unit=Unit.HOUR, zone=UTC, **hour),
            lambda: reports.summarize_outcomes("a1", None, **hour),
        ]
        for read in reads:
            started = time.monotonic()
            assert read().pending == 1
            assert time.monotonic() - started < 0.2

    def test_what_is_counted_meanwhile_is_in_the_answer(self, db: Db, tracker: Tracker) -> None:
        tracker.record(make_trigger(user_id="first"))
        tracker.store(make_trigger())
        counting = threading.Timer(0.1, tracker.count)
        counting.start()
        found = StatsStore(db).summarize([{"_id": "a1"}], at=T0 + MINUTE, wait_seconds=5.0)
        counting.join()
        assert found.pending == 0
        assert found.by_automation["a1"] == RunSummary(2, T0, 2, 2)

    def test_pending_and_counted_are_of_one_snapshot(self, db: Db, tracker: Tracker) -> None:
        """At every instant what is stored is either counted or pending."""
        stored: list[int] = []

        def read(_: int) -> None:
            known = sum(stored)
            at = T0 + 100 * WINDOW
            found = StatsStore(db).summarize([{"_id": "a1"}], at=at, wait_seconds=0)
            assert found.pending + found.by_automation["a1"].total_runs >= known

        with flow(read) as reads:
            for number in range(40):
                tracker.store(*make_people(3, arrived_at=T0 + number * 2 * WINDOW))
                stored.append(3)
                tracker.count()
        assert len(reads) > 5


def test_recent_hours_equal_a_count_of_the_runs(db: Db) -> None:
    """The same runs, whether folded or still open."""
    db["automations"].insert_many([build_automation(_id=one) for one in ("a1", "a2", "a3")])
    ages = [timedelta(hours=number * 7 % 160, minutes=number % 60) for number in range(80)]
    db["automation_runs"].insert_many(
        build_run("a1" if number % 3 else "a2", age=age) for number, age in enumerate(ages)
    )
    run_command("add_run_fields")
    for number in range(5):
        service.track_automation_run("a1", "ws1", "main_dm", f"u{number}")
    found = service.list_recent_hours(["a1", "a2", "a3", "unknown"])
    expected: dict[str, Counter[int]] = {one: Counter() for one in found}
    for run in db["automation_runs"].find():
        expected[run["automationId"]][hour_of(run["createdAt"])] += 1
    assert found == expected
    assert sum(found["a1"].values()) > 50
    assert found["a3"] == found["unknown"] == {}
    assert service.list_recent_hours([]) == {}

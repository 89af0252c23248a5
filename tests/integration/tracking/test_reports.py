import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
from typing import Any

import bson
import pytest
from bson import ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.conftest import Db
from tests.support.tracker import Tracker
from tests.support.triggers import MILLISECOND, T0, make_people, make_run, make_trigger
from tracking import reports
from tracking.exceptions import TrackingUnavailable
from tracking.queries import run_store
from tracking.queries.run_filters import InvalidCursor, RunFilter, build_cursor, parse_cursor
from tracking.queries.time_grid import BadRange
from tracking.rollups.account_hours import AccountHour, AccountHourStore
from tracking.rollups.hours import hour_of
from tracking.rollups.outcomes import StepOutcome
from tracking.runs import Outcome
from tracking.service import record_step_outcomes

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ALL = RunFilter(workspace_id="w1")


def insert(db: Db, *times: datetime, **fields: Any) -> list[dict[str, Any]]:
    runs = [make_run("a1", at, _id=ObjectId(), **fields) for at in times]
    db["automation_runs"].insert_many(runs)
    return runs


def list_all(wanted: RunFilter, *, limit: int) -> list[Any]:
    """Return the ids of all pages, which have the size that was asked for."""
    ids: list[Any] = []
    cursor = None
    while True:
        page = reports.list_runs(wanted, limit=limit, cursor=cursor)
        ids += [run["_id"] for run in page.runs]
        cursor = page.next_cursor
        if cursor is None:
            return ids
        assert len(page.runs) == limit


WITHIN_TEST = [HealthCheck.function_scoped_fixture]


@contextmanager
def profiled(db: Db, seen: list[dict[str, Any]]) -> Iterator[None]:
    """Note the queries of the block in `seen`, with what they examined."""
    db.command("profile", 2)
    try:
        yield
    finally:
        db.command("profile", 0)
    seen += db["system.profile"].find({"op": "query"})
    db["system.profile"].drop()


class TestPages:
    @settings(max_examples=25, deadline=None, suppress_health_check=WITHIN_TEST)
    @given(
        times=st.lists(st.integers(0, 6), max_size=40),
        limit=st.integers(1, 9),
        bounds=st.tuples(st.integers(0, 6), st.integers(1, 7)),
    )
    def test_every_run_is_on_one_page_the_newest_first(
        self, db: Db, times: list[int], limit: int, bounds: tuple[int, int]
    ) -> None:
        """Many runs share their time, as those of one delivery do."""
        db["automation_runs"].delete_many({})
        if times:
            insert(db, *(T0 + number * MILLISECOND for number in times))
        from_, to = (T0 + bound * MILLISECOND for bound in bounds)
        for wanted, is_in in (
            (ALL, lambda at: True),
            (RunFilter(workspace_id="w1", from_=from_, to=to), lambda at: from_ <= at < to),
        ):
            stored = [run for run in db["automation_runs"].find() if is_in(run["createdAt"])]
            stored.sort(key=lambda run: (run["createdAt"], run["_id"]), reverse=True)
            expected = [run["_id"] for run in stored]
            assert list_all(wanted, limit=limit) == expected
            assert [run["_id"] for run in reports.iterate_runs(wanted)] == expected

    def test_runs_that_come_meanwhile_do_not_shift_a_page(self, db: Db) -> None:
        insert(db, *[T0] * 5)
        first = reports.list_runs(ALL, limit=3)
        insert(db, T0 + MILLISECOND, T0 + HOUR)
        second = reports.list_runs(ALL, limit=3, cursor=first.next_cursor)
        ids = [run["_id"] for run in first.runs + second.runs]
        assert len(set(ids)) == 5
        assert second.next_cursor is None

    def test_a_first_page_waits_for_what_arrived_before(self, db: Db, tracker: Tracker) -> None:
        tracker.record(make_trigger(user_id="first", arrived_at=T0 - HOUR))
        tracker.store(make_trigger())
        options: dict[str, Any] = {"limit": 3, "automation_ids": ["a1"]}
        assert reports.list_runs(ALL, at=T0, **options).pending == 1
        counting = threading.Timer(0.05, tracker.count)
        counting.start()
        page = reports.list_runs(ALL, at=T0, **options)
        counting.join()
        assert (page.pending, len(page.runs)) == (0, 2)

    def test_each_filter_keeps_what_it_names(self, db: Db) -> None:
        insert(db, T0, workspaceId="w2")
        [plain] = insert(db, T0)
        [other] = insert(
            db, T0, automationId="a2", userId="p2", triggerType="main_dm",
            metadata={"postId": "m9"}, steps={"main_dm": {"state": "failed", "at": T0}},
        )  # fmt: skip
        [done] = insert(db, T0, completedAt=T0, steps={"opening_dm": {"state": "sent", "at": T0}})
        both = sorted([plain["_id"], done["_id"]], reverse=True)
        for fields, expected in (
            ({"automation_id": "a2"}, [other["_id"]]),
            ({"trigger_type": "main_dm"}, [other["_id"]]),
            ({"user_id": "p2"}, [other["_id"]]),
            ({"user_id": "p1"}, both),
            ({"automation_id": "a1", "user_id": "p2"}, []),
            ({"post_id": "m9"}, [other["_id"]]),
            ({"state": "failed"}, [other["_id"]]),
            ({"state": "failed", "step": "main_dm"}, [other["_id"]]),
            ({"state": "failed", "step": "opening_dm"}, []),
            ({"state": "completed"}, [done["_id"]]),
        ):
            wanted = RunFilter(workspace_id="w1", **fields)  # type: ignore[arg-type]
            assert list_all(wanted, limit=2) == expected, fields

    @pytest.mark.parametrize(
        ("fields", "is_refused"),
        [
            ({}, False),
            ({"automation_id": "a1", "user_id": "p1"}, False),
            ({"user_id": "p1"}, True),
            ({"post_id": "m1"}, True),
            ({"automation_id": "a1", "state": "completed"}, True),
            ({"trigger_type": "main_dm", "from_": T0 - HOUR}, False),
        ],
    )
    def test_a_filter_without_an_index_looks_at_so_many_runs(
        self, db: Db, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], is_refused: bool
    ) -> None:
        monkeypatch.setattr(run_store, "MOST_RUNS_TO_SEARCH", 3)
        insert(db, *(T0 - number * HOUR for number in range(5)))
        wanted = RunFilter(workspace_id="w1", **fields)
        with pytest.raises(BadRange, match="3 runs") if is_refused else nullcontext():
            reports.list_runs(wanted, limit=1)
        with pytest.raises(BadRange) if is_refused else nullcontext():
            list(reports.iterate_runs(wanted))

    def test_what_an_older_product_stored_is_no_obstacle(self, db: Db) -> None:
        workspace = ObjectId()
        insert(db, T0, workspaceId=workspace)
        db["automation_runs"].insert_one({"workspaceId": workspace, "createdAt": "monday"})
        db["automation_runs"].insert_one({"workspaceId": workspace, "_id": "text", "createdAt": T0})
        page = reports.list_runs(RunFilter(workspace_id=str(workspace)), limit=10)
        assert [type(run["_id"]) for run in page.runs] == [ObjectId, str]
        assert list_all(RunFilter(workspace_id=str(workspace)), limit=1)[0] == page.runs[0]["_id"]

    def test_a_page_reads_no_more_than_it_holds_and_its_ties(self, db: Db) -> None:
        insert(db, *(T0 - number * HOUR for number in range(300)))
        seen: list[dict[str, Any]] = []
        with profiled(db, seen):
            first = reports.list_runs(RunFilter(workspace_id="w1", automation_id="a1"), limit=10)
            reports.list_runs(ALL, limit=10, cursor=first.next_cursor)
        seen = [one for one in seen if one["ns"] == f"{db.name}.automation_runs"]
        assert len(seen) >= 3
        assert max(one["docsExamined"] for one in seen) <= 11

    @pytest.mark.parametrize(
        "cursor",
        ["", "x", "é", "=" * 5000, "AAAA", build_cursor({"createdAt": "now", "_id": 1}),
         build_cursor({"createdAt": T0, "_id": {"$gt": ""}}),
         build_cursor({"createdAt": T0, "_id": bson.Regex("a")})],
    )  # fmt: skip
    def test_a_cursor_that_is_none_of_ours_is_refused(self, cursor: str) -> None:
        with pytest.raises(InvalidCursor):
            parse_cursor(cursor)

    def test_a_server_that_is_away_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(run_store, "_SECONDS", 0.7)
        with pytest.raises(TrackingUnavailable):
            reports.list_runs(ALL, limit=1)


class TestOneRun:
    def test_a_run_has_its_trigger_its_duplicates_and_taps(self, db: Db, tracker: Tracker) -> None:
        db["automations"].insert_one({"_id": "a1", "accountId": "17841400000000001"})
        counted = make_trigger(event_id="first")
        assert tracker.record(
            counted, make_trigger(arrived_at=T0 + HOUR), make_trigger(user_id="p2")
        ) == [Outcome.COUNTED, Outcome.DUPLICATE, Outcome.COUNTED]
        run = db["automation_runs"].find_one({"userId": "p1"}) or {}
        for number, continued in enumerate(("comment:first", "message:tap0")):
            tap = make_trigger(
                kind="message", event_id=f"tap{number}", run_id=run["_id"],
                arrived_at=T0 + (1 + number) * DAY, continues=f"17841400000000001:{continued}",
            )  # fmt: skip
            assert tracker.record(tap) == [Outcome.CONTINUATION]
        found = reports.find_run("w1", str(run["_id"]))
        assert found.run == run
        told = [one["outcome"] for one in found.triggers]
        assert told == ["counted", "duplicate", "continuation", "continuation"]

    def test_a_run_of_another_engine_has_its_trigger_too(self, db: Db, tracker: Tracker) -> None:
        tracker.record(make_trigger(account_id="w1", kind="call", automation_id="no document"))
        [run] = db["automation_runs"].find()
        found = reports.find_run("w1", str(run["_id"]))
        assert [one["outcome"] for one in found.triggers] == ["counted"]

    def test_looking_for_what_is_behind_a_run_scans_nothing(self, db: Db, tracker: Tracker) -> None:
        db["automations"].insert_one({"_id": "a1", "accountId": "17841400000000001"})
        tracker.record(*make_people(200))
        [run] = db["automation_runs"].find({"userId": "p7"})
        seen: list[dict[str, Any]] = []
        with profiled(db, seen):
            reports.find_run("w1", str(run["_id"]))
        assert len(seen) >= 4
        assert sum(one["docsExamined"] for one in seen) <= 6

    def test_a_run_of_another_workspace_is_not_there(self, db: Db) -> None:
        [run] = insert(db, T0)
        for workspace, name in (("w2", str(run["_id"])), ("w1", str(ObjectId())), ("w1", "no id")):
            assert reports.find_run(workspace, name) is None
        assert reports.find_run("w1", str(run["_id"])).triggers == []  # type: ignore[union-attr]


class TestPeople:
    def test_people_are_distinct_and_within_the_range(self, db: Db) -> None:
        for person, hours in (("p1", 0), ("p1", 5), ("p2", 1), ("p3", 30), (None, 0)):
            insert(db, T0 - hours * HOUR, userId=person)
        for wanted, people in (
            (ALL, 3),
            (RunFilter(workspace_id="w1", automation_id="a1", from_=T0 - DAY, to=T0), 2),
            (RunFilter(workspace_id="w1", automation_id="a2"), 0),
        ):
            assert reports.count_people(wanted) == run_store.PeopleCount(people, is_exact=True)

    def test_more_runs_than_are_looked_at_are_told(self, db: Db, monkeypatch: Any) -> None:
        for person in ("p1", "p2", "p3"):
            insert(db, T0, userId=person)
        monkeypatch.setattr(run_store, "MOST_RUNS_FOR_PEOPLE", 3)
        assert reports.count_people(ALL).is_exact
        monkeypatch.setattr(run_store, "MOST_RUNS_FOR_PEOPLE", 2)
        assert not reports.count_people(ALL).is_exact


def tell_steps(db: Db) -> None:
    """Three people: one got everything, one the opening message, one nothing."""
    runs = list(db["automation_runs"].find().sort("userId", 1))
    reports_of_steps = [
        (0, "opening_dm", "sent", {}),
        (0, "main_dm", "sent", {"is_completed": True}),
        (1, "opening_dm", "sent", {}),
        (1, "ask_follow", "sent", {}),
        (2, "opening_dm", "failed", {"code": 10, "subcode": 2534022, "reason": "window"}),
    ]
    record_step_outcomes([
        StepOutcome(run_id=runs[number]["_id"], automation_id="a1", step=step, state=state, at=T0,
                    **fields)  # type: ignore[arg-type]
        for number, step, state, fields in reports_of_steps
    ])  # fmt: skip


def test_the_funnel_narrows(db: Db, tracker: Tracker) -> None:
    tracker.record(*make_people(3, arrived_at=T0))
    tell_steps(db)
    funnel = reports.summarize_outcomes("a1", None, from_=T0 - DAY, to=T0 + MILLISECOND, at=T0)
    told = (funnel.counted, funnel.opened, funnel.asked, funnel.completed)
    assert told == (3, 2, 1, 1)
    assert funnel.steps == {
        "ask_follow.sent": 1, "main_dm.sent": 1, "opening_dm.failed": 1, "opening_dm.sent": 2,
    }  # fmt: skip
    start = T0.replace(minute=0, second=0, microsecond=0)
    assert (funnel.from_, funnel.to, funnel.is_exact) == (start - DAY, start + HOUR, True)
    assert (funnel.as_of, funnel.pending) == (T0, 0)


def test_the_most_frequent_reason_is_first(db: Db, tracker: Tracker, monkeypatch: Any) -> None:
    tracker.record(*make_people(3, arrived_at=T0))
    tell_steps(db)
    insert(db, T0, steps="nonsense")
    found = reports.summarize_reasons(RunFilter(workspace_id="w1", automation_id="a1"))
    assert (found.runs, found.is_exact) == (4, True)
    assert found.reasons[0] == run_store.Reason("opening_dm", "sent", None, None, None, 2)
    assert run_store.Reason("opening_dm", "failed", "window", 10, 2534022, 1) in found.reasons
    assert len(found.reasons) == 4
    monkeypatch.setattr(run_store, "MOST_RUNS_FOR_REASONS", 3)
    found = reports.summarize_reasons(ALL)
    assert (found.runs, found.is_exact) == (3, False)
    assert reports.summarize_reasons(RunFilter(workspace_id="w2")).reasons == []


def test_why_not_everything_was_counted(db: Db, tracker: Tracker) -> None:
    tracker.record(*make_people(2, arrived_at=T0), *make_people(1, arrived_at=T0 + MILLISECOND))
    times = [T0, T0 - 2 * HOUR, T0 + 2 * HOUR]  # of which one is in the range
    tracker.store(*(make_trigger(user_id="p9", arrived_at=at) for at in times))
    account = "17841400000000001"
    hours = {(account, hour_of(T0)): AccountHour({"own_comment": 2, "test": 1}, redelivered=4)}
    AccountHourStore(db).add_account_hours(hours, seconds=5)
    told: dict[str, Any] = {"from_": T0 - HOUR, "to": T0 + HOUR, "at": T0}
    why = reports.summarize_outcomes("a1", account, **told)
    assert (why.counted, why.duplicates, why.pending, why.redelivered) == (2, 1, 1, 4)
    assert why.ignored == {"own_comment": 2, "test": 1}
    assert why.is_exact
    alone = reports.summarize_outcomes("a1", None, **told)
    assert (alone.counted, alone.ignored, alone.redelivered) == (2, {}, 0)

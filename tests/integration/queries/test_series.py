"""Series by hour and day equal a recount of the raw runs, in any zone, when its clocks change."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.conftest import Db, MakeTracker
from tests.support.tracker import Tracker
from tests.support.triggers import MILLISECOND, T0, make_run, make_trigger
from tracking import reports
from tracking.maintenance.backfill import Backfill
from tracking.queries.series import Series
from tracking.queries.time_grid import BadRange, Counts, Unit
from tracking.rollups.folding import Folder
from tracking.rollups.outcomes import StepOutcome
from tracking.runs import Outcome
from tracking.service import record_step_outcomes

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MINUTE = timedelta(minutes=1)
ZONES = [ZoneInfo(one) for one in ("Asia/Kolkata", "Asia/Kathmandu", "America/New_York")]
# When New York's clocks move, in 2026: forward and back.
CHANGES = [datetime(2026, 3, 8, 7, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC)]


def label(moment: datetime, zone: ZoneInfo, unit: Unit) -> Any:
    """What a clock of the zone calls the day or the hour: said another way than in the code."""
    local = moment.astimezone(zone)
    if unit is Unit.DAY:
        return (local.strftime("%F"),)
    return local.strftime("%F %H"), local.strftime("%z")


def read(db: Db, **options: Any) -> Series:
    values: dict[str, Any] = {"unit": Unit.DAY, "zone": UTC, "from_": T0 - DAY, "to": T0, "at": T0}
    return reports.read_series(["a1", "a2"], **(values | options))


def tell(series: Series, counts: list[Counts], zone: ZoneInfo, unit: Unit) -> dict[Any, Any]:
    """Return the buckets that are not empty by what the zone calls them."""
    return {
        label(start, zone, unit): (one.counted, one.duplicates, one.new_people)
        for start, one in zip(series.grid.starts, counts, strict=True)
        if one != Counts()
    }


times = st.lists(
    st.tuples(
        st.sampled_from(["a1", "a1", "a2"]),
        st.integers(0, 4),
        # Near the change, near its midnights, or anywhere in four days.
        st.sampled_from([-26 * HOUR, -3 * HOUR, timedelta(0), 18 * HOUR, 22 * HOUR]),
        st.integers(-150 * 60_000, 150 * 60_000) | st.sampled_from([0, -1]),
    ),
    min_size=1,
    max_size=40,
)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(runs=times, folded=st.sampled_from([0, 50, 100]))
@pytest.mark.parametrize("change", CHANGES, ids=["forward", "back"])
def test_series_equal_a_recount_of_raw_runs_by_local_day_and_hour(
    db: Db, make_tracker: MakeTracker, change: datetime, runs: list[Any], folded: int
) -> None:
    for name in ("automation_runs", "automation_run_stats", "automation_contacts"):
        db[name].delete_many({})
    db["automation_triggers"].delete_many({})
    tracker = make_tracker(db)
    at = change + 3 * DAY
    duplicates: list[tuple[str, datetime]] = []
    arrivals = sorted(
        (change + part + ms * MILLISECOND, automation, person)
        for automation, person, part, ms in runs
    )
    for number, (arrived_at, automation, person) in enumerate(arrivals):
        trigger = make_trigger(
            automation_id=automation, user_id=f"p{person}", arrived_at=arrived_at
        )
        [outcome] = tracker.record(trigger)
        if outcome is Outcome.DUPLICATE:
            duplicates.append((automation, arrived_at))
        if number == len(arrivals) * folded // 100:
            Folder(db).fold_all(now=arrived_at)
    if folded == 100:
        Folder(db).fold_all(now=at)
    tracker.close()
    stored = list(db["automation_runs"].find())
    for zone in ZONES:
        for unit in Unit:
            expected = recount(stored, duplicates, zone, unit)
            series = read(
                db, zone=zone, unit=unit, from_=change - 2 * DAY, to=at, at=at, is_split=True
            )
            for automation in ("a1", "a2"):
                shown = tell(series, series.by_automation[automation], zone, unit)
                assert shown == expected[automation], (automation, zone, unit)
            assert tell(series, series.total, zone, unit) == expected["all"], (zone, unit)
            together = read(db, zone=zone, unit=unit, from_=change - 2 * DAY, to=at, at=at)
            assert (together.total, together.by_automation) == (series.total, {})


def recount(stored: list[Any], duplicates: list[Any], zone: ZoneInfo, unit: Unit) -> dict[str, Any]:
    """Count raw runs, duplicates and first runs of people by what the zone calls their time."""
    counts: dict[str, Counter[Any]] = {name: Counter() for name in ("a1", "a2", "all")}

    def add(automation: str, at: datetime, figure: int) -> None:
        counts[automation][label(at, zone, unit), figure] += 1
        counts["all"][label(at, zone, unit), figure] += 1

    known = set()
    for run in sorted(stored, key=lambda run: run["createdAt"]):
        add(run["automationId"], run["createdAt"], 0)
        if (run["automationId"], run["userId"]) not in known:
            known.add((run["automationId"], run["userId"]))
            add(run["automationId"], run["createdAt"], 2)
    for automation, at in duplicates:
        add(automation, at, 1)
    return {
        name: {
            bucket: (figures[bucket, 0], figures[bucket, 1], figures[bucket, 2])
            for bucket, _ in figures
        }
        for name, figures in counts.items()
    }


def test_buckets_are_whole_and_end_with_the_present(db: Db) -> None:
    series = read(db, from_=T0 - 2 * DAY, to=T0 + 30 * DAY)
    assert series.grid.starts == tuple(datetime(2026, 11, day, tzinfo=UTC) for day in (21, 22, 23))
    assert series.grid.end == datetime(2026, 11, 24, tzinfo=UTC)
    assert series.as_of == T0


def test_a_range_that_has_not_begun_is_refused(db: Db) -> None:
    with pytest.raises(BadRange, match="past"):
        read(db, from_=T0 + MILLISECOND, to=T0 + DAY)


def make_earlier(db: Db, *times: datetime, automation_id: str = "a1") -> None:
    runs = [make_run(automation_id, at, userId=f"old{n}") for n, at in enumerate(times)]
    db["automation_runs"].insert_many(runs)


class TestWhatIsSaidToBeExact:
    """A figure that may lack something says so, and from when on it does not."""

    def test_hours_past_their_keeping(self, db: Db) -> None:
        assert read(db, from_=T0 - 399 * DAY).is_exact
        series = read(db, from_=T0 - 401 * DAY)
        assert not series.is_exact
        assert series.exact_since == T0 - 400 * DAY + HOUR

    def test_earlier_runs_without_hours_are_counted_one_by_one(self, db: Db) -> None:
        make_earlier(db, T0 - 2 * HOUR, T0 - MINUTE, T0 - 80 * DAY)
        series = read(db, from_=T0 - DAY)
        assert [one.counted for one in series.total] == [0, 2]
        assert (series.is_exact, series.known_since) == (True, T0)
        assert not read(db, from_=T0 - 100 * DAY).is_exact

    def test_earlier_runs_and_ours_around_the_backfill(self, db: Db, tracker: Tracker) -> None:
        now = datetime.now(UTC).replace(minute=30, second=0, microsecond=0)
        db["automations"].insert_one({"_id": "a1", "totalRuns": 3})
        make_earlier(db, now - 2 * DAY, now - 3 * HOUR, now - 2 * HOUR)
        tracker.record(make_trigger(arrived_at=now), make_trigger(arrived_at=now))
        options = {"unit": Unit.HOUR, "from_": now - 3 * DAY, "to": now + HOUR, "at": now + HOUR}
        base = db["automation_run_stats"].find_one({"_id": "a1:b"}) or {}
        before = read(db, **options)
        assert sum(one.counted for one in before.total) == 4
        backfill = Backfill(db, now=now, retention=None)
        for batch in backfill.list_batches(10):
            backfill.run_batch(batch, recount=False)
        after = read(db, **options)
        assert after.total == before.total
        assert after.is_exact
        assert sum(one.duplicates for one in after.total) == 1
        # Duplicates were not kept before us.
        assert after.known_since == before.known_since == base["takenAt"]

    def test_what_was_counted_without_a_run(self, db: Db, tracker: Tracker) -> None:
        db["automations"].insert_one({"_id": "a1", "totalRuns": 900})
        tracker.record(make_trigger(arrived_at=T0))
        base = db["automation_run_stats"].find_one({"_id": "a1:b"}) or {}
        later = base["takenAt"] + DAY
        series = read(db, from_=T0 - DAY, to=later, at=later)
        assert (series.is_exact, series.exact_since) == (False, base["takenAt"])
        assert read(db, from_=later - HOUR, to=later, at=later, unit=Unit.HOUR).is_exact

    def test_an_automation_of_ours_lacks_nothing(self, db: Db, tracker: Tracker) -> None:
        tracker.record(make_trigger(arrived_at=T0))
        Folder(db).fold_all(now=T0 + DAY)
        series = read(db, from_=T0 - DAY, to=T0 + HOUR, at=T0 + HOUR)
        assert (series.is_exact, series.known_since) == (True, None)


def test_outcomes_by_bucket_where_no_edge_cuts_an_hour(db: Db, tracker: Tracker) -> None:
    tracker.record(make_trigger(arrived_at=T0))
    tracker.record(make_trigger(user_id="p2", arrived_at=T0 - DAY))
    runs = list(db["automation_runs"].find().sort("createdAt", 1))
    record_step_outcomes([
        StepOutcome(run_id=run["_id"], automation_id="a1", step="main_dm", state=state, at=T0,
                    is_completed=state == "sent")
        for run, state in zip(runs, ("failed", "sent"), strict=True)
    ])  # fmt: skip
    series = read(db, to=T0 + MINUTE, at=T0 + MINUTE, has_outcomes=True)
    assert series.outcomes == [{"main_dm.failed": 1}, {"main_dm.sent": 1, "completed": 1}]
    assert read(db, has_outcomes=True, zone=ZoneInfo("Asia/Kolkata")).outcomes is None
    assert read(db).outcomes is None


def test_an_automation_whose_id_goes_on_as_another_does(db: Db, tracker: Tracker) -> None:
    hour_id = "a1:h495000:x"
    tracker.record(make_trigger(automation_id=hour_id, automation_key=hour_id, arrived_at=T0))
    Folder(db).fold_all(now=T0 + DAY)
    series = read(db, from_=T0 - 300 * DAY, is_split=True)
    assert sum(one.counted for one in series.total) == 0

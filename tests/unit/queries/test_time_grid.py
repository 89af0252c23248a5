"""Hours and days of every zone: where they begin, and that they hold each instant once."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rest_framework.exceptions import ValidationError

from automations.api.query_parameters import list_zones, parse_zone
from tracking.queries.time_grid import (
    MOST_BUCKETS,
    QUARTER,
    BadRange,
    Counts,
    Unit,
    build_grid,
    quarter_of,
    split_hour,
    start_of_day,
    sum_hour,
)
from tracking.rollups.hours import start_of_hour

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MILLISECOND = timedelta(milliseconds=1)
NEW_YORK, KOLKATA, KATHMANDU = map(ZoneInfo, ("America/New_York", "Asia/Kolkata", "Asia/Kathmandu"))
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # its clocks move by half an hour
HAVANA = ZoneInfo("America/Havana")  # its clocks move at midnight

zones = st.sampled_from(sorted(list_zones())).map(ZoneInfo)
instants = st.integers(10_958 * 86_400_000, 24_472 * 86_400_000).map(
    lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + ms * MILLISECOND
)


def test_every_zone_is_a_multiple_of_a_quarter_away() -> None:
    months = [datetime(2000 + n // 12, n % 12 + 1, 1, tzinfo=UTC) for n in range(12 * 38)]
    for name in list_zones():
        offsets = {one.astimezone(ZoneInfo(name)).utcoffset() or timedelta(0) for one in months}
        assert {offset % QUARTER for offset in offsets} == {timedelta(0)}, name


@given(zones, instants)
@example(HAVANA, datetime(2026, 3, 8, 12, tzinfo=UTC))
@example(HAVANA, datetime(2026, 11, 1, 12, tzinfo=UTC))
@example(ZoneInfo("Pacific/Apia"), datetime(2011, 12, 31, 12, tzinfo=UTC))
def test_a_day_begins_at_the_first_instant_of_its_date(zone: ZoneInfo, moment: datetime) -> None:
    day = moment.astimezone(zone).date()
    start = start_of_day(day, zone)
    assert start.astimezone(zone).date() >= day
    assert (start - MILLISECOND).astimezone(zone).date() < day


@given(zones, instants, st.integers(1, 80))
@example(NEW_YORK, datetime(2026, 11, 1, 0, tzinfo=UTC), 40)
@example(LORD_HOWE, datetime(2026, 4, 4, 0, tzinfo=UTC), 40)
def test_an_hour_is_what_a_clock_shows(zone: ZoneInfo, from_: datetime, hours: int) -> None:
    grid = build_grid(Unit.HOUR, zone=zone, from_=from_, to=from_ + hours * HOUR)
    assert grid.start <= from_ < grid.starts[1 % len(grid.starts)] or len(grid.starts) == 1
    assert grid.end >= from_ + hours * HOUR > grid.starts[-1]
    for start, end in zip(grid.starts, [*grid.starts[1:], grid.end], strict=True):
        assert timedelta(0) < end - start <= HOUR
        shown = {
            (local.hour, local.utcoffset())
            for local in (one.astimezone(zone) for one in (start, end - MILLISECOND))
        }
        assert len(shown) == 1


def test_a_clock_that_moves_by_half_an_hour_has_half_an_hour_of_its_own() -> None:
    from_ = datetime(2026, 4, 5, tzinfo=LORD_HOWE)
    grid = build_grid(Unit.HOUR, zone=LORD_HOWE, from_=from_, to=from_ + DAY)
    shown = [start.astimezone(LORD_HOWE).isoformat()[11:] for start in grid.starts[:4]]
    assert shown == ["00:00:00+11:00", "01:00:00+11:00", "01:30:00+10:30", "02:00:00+10:30"]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [(NEW_YORK, (2026, 3, 8), 23), (NEW_YORK, (2026, 11, 1), 25), (KOLKATA, (2026, 3, 8), 24)],
)
def test_a_day_is_as_long_as_its_clocks_have_it(zone: ZoneInfo, day: Any, hours: int) -> None:
    noon = datetime(*day, 12, tzinfo=zone)
    grid = build_grid(Unit.DAY, zone=zone, from_=noon, to=noon + MILLISECOND)
    assert len(grid.starts) == 1
    assert grid.end - grid.start == hours * HOUR


def test_hours_that_an_edge_cuts() -> None:
    noon = datetime(2026, 11, 23, 12, tzinfo=UTC)
    for zone, expected in ((UTC, 0), (NEW_YORK, 0), (KOLKATA, 4), (KATHMANDU, 4)):
        grid = build_grid(Unit.DAY, zone=zone, from_=noon, to=noon + 2 * DAY)
        assert len(grid.cut_hours) == expected, zone
    grid = build_grid(Unit.HOUR, zone=KATHMANDU, from_=noon, to=noon + 3 * HOUR)
    assert grid.cut_hours == list(grid.hours)


@given(zones, instants, st.sampled_from(Unit), st.integers(0, 48))
def test_quarters_have_buckets(zone: ZoneInfo, from_: datetime, unit: Unit, quarters: int) -> None:
    grid = build_grid(unit, zone=zone, from_=from_, to=from_ + 12 * HOUR)
    at = from_ + quarters * QUARTER
    bucket = grid.find_bucket(quarter_of(at))
    if at >= grid.end:
        assert bucket is None
    else:
        assert bucket is not None
        ends = [*grid.starts[1:], grid.end]
        assert grid.starts[bucket] <= at < ends[bucket]
        assert quarter_of(at) // 4 in grid.hours
    assert grid.find_bucket(quarter_of(grid.start) - 1) is None


def test_counts_of_an_hour_and_of_its_quarters() -> None:
    parts = {"n": 6, "m": {"0": 1, "14": 2, "15": 1, "59": 2}, "d": {"1": 4}, "p": {"0": 1, "3": 1}}
    assert sum_hour(parts) == Counts(6, 4, 2)
    assert split_hour(parts) == [Counts(3, 0, 1), Counts(1, 4, 0), Counts(0, 0, 0), Counts(2, 0, 1)]
    assert sum_hour({}) == Counts()


@pytest.mark.parametrize("unit", Unit)
def test_a_range_that_cannot_be_drawn_says_what_to_ask_for(unit: Unit) -> None:
    start = start_of_hour(480_000)
    length = (HOUR if unit is Unit.HOUR else DAY) * MOST_BUCKETS[unit]
    assert len(build_grid(unit, zone=UTC, from_=start, to=start + length).starts) >= 1098
    for from_, to, said in (
        (start, start + length + MILLISECOND, "shorter range"),
        (start, start, "before 'to'"),
        (datetime(1999, 12, 31, tzinfo=UTC), start, "2000 or later"),
    ):
        with pytest.raises(BadRange, match=said):
            build_grid(unit, zone=UTC, from_=from_, to=to)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Asia/Calcuta", "Did you mean Asia/Calcutta?"),
        ("america/new york", "Did you mean America/New_York?"),
        ("kathmandu", "Did you mean Asia/Kathmandu?"),
        *[(name, "is not an IANA time zone") for name in ("../etc/passwd", "", "x" * 10_000)],
    ],
)
def test_an_unknown_zone_is_refused_with_the_one_that_was_meant(name: str, hint: str) -> None:
    with pytest.raises(ValidationError) as refused:
        parse_zone(name)
    assert hint in str(refused.value)
    assert len(str(refused.value)) < 200


def test_every_zone_is_found_by_its_name() -> None:
    assert {parse_zone(name).key for name in list_zones()} == list_zones()

"""The spans of a chart: as many bars as they say, each with a name of its own."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from automations.dashboard.charts import SPANS, Span, find_span, name_buckets
from tracking.queries.time_grid import Unit, build_grid

# Clocks that are moved, by whole hours and by half ones, and clocks that are not.
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu",
         "Pacific/Chatham")  # fmt: skip
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def list_names(span: Span, at: datetime, zone: ZoneInfo) -> list[tuple[str, str]]:
    start = span.find_start(at, zone=zone)
    grid = build_grid(span.unit, zone=zone, from_=start, to=at + timedelta(milliseconds=1))
    assert grid.starts[-1] <= at < grid.end
    return name_buckets(grid.starts, span, zone=zone)


@given(MOMENTS, st.sampled_from(ZONES), st.sampled_from(sorted(SPANS)))
@example(datetime(2024, 10, 1, tzinfo=UTC), "Pacific/Chatham", "7d")
def test_a_span_has_its_buckets_and_each_its_name(at: datetime, zone: str, key: str) -> None:
    names = list_names(SPANS[key], at, ZoneInfo(zone))
    # Clocks of Chatham move at 02:45 and 03:45: an hour in two parts, each with its bar.
    is_cut = zone == "Pacific/Chatham" and SPANS[key].unit is Unit.HOUR
    assert len(names) - SPANS[key].buckets in ((0, 1) if is_cut else (0,))
    assert len({name for name, _ in names}) == len(names)
    assert 2 <= len([mark for _, mark in names if mark]) <= 9


def test_days_are_counted_by_dates() -> None:
    # 89 times 24 hours before, a clock of Berlin showed the next day.
    at = datetime(2026, 11, 25, 22, 52, tzinfo=UTC)
    names = list_names(SPANS["90d"], at, ZoneInfo("Europe/Berlin"))
    assert (names[0], names[-1]) == (("Fri 28 Aug", ""), ("Wed 25 Nov", "25 Nov"))


def test_an_hour_that_a_clock_shows_twice_has_two_names() -> None:
    at = datetime(2026, 10, 25, 12, tzinfo=UTC)
    names = [name for name, _ in list_names(SPANS["24h"], at, ZoneInfo("Europe/Berlin"))]
    assert {"Sun 25 Oct, 02:00 CEST", "Sun 25 Oct, 02:00 CET"} <= set(names)


@pytest.mark.parametrize("key", ["", "x", None])
def test_an_unknown_span_is_seven_days(key: str | None) -> None:
    assert find_span(key) is SPANS["7d"]

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automations.dashboard.access import list_zones, read_zone
from automations.dashboard.charts import SPARK_HEIGHT, build_bars, build_spark, find_levels
from automations.dashboard.formatting import describe_age, describe_wait, format_moment

AT = datetime(2026, 11, 25, 10, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (timedelta(seconds=-2), "just now"),
        (timedelta(seconds=9), "just now"),
        (timedelta(seconds=10), "10 seconds ago"),
        (timedelta(seconds=60), "1 minute ago"),
        (timedelta(minutes=59, seconds=59), "59 minutes ago"),
        (timedelta(hours=1), "1 hour ago"),
        (timedelta(hours=10), "10 hours ago"),
        (timedelta(hours=13), "yesterday, 21:30"),
        (timedelta(hours=34), "yesterday, 00:30"),
        (timedelta(hours=35), "2 days ago"),
        (timedelta(days=6), "6 days ago"),
        (timedelta(days=7), "18 Nov"),
        (timedelta(days=400), "21 Oct 2025"),
    ],
)
def test_ages_in_words(age: timedelta, words: str) -> None:
    assert describe_age(AT - age, at=AT, zone=UTC) == words


def test_yesterday_is_that_of_the_reader() -> None:
    moment = AT - timedelta(hours=13)  # 21:30 in UTC, 03:00 today in Kolkata
    kolkata = ZoneInfo("Asia/Kolkata")
    assert describe_age(moment, at=AT, zone=kolkata) == "13 hours ago"
    assert format_moment(moment, zone=kolkata) == "25 Nov 2026, 03:00:00 IST"


@given(st.timedeltas(timedelta(0), timedelta(days=4000)))
def test_every_age_has_words(age: timedelta) -> None:
    words = describe_age(AT - age, at=AT, zone=ZoneInfo("America/New_York"))
    assert words
    assert not words.startswith("0 ")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "less than a minute"), (60, "about 1 minute"), (1500, "about 25 minutes"),
     (7300, "about 2 hours"), (200_000, "about 2 days")],
)  # fmt: skip
def test_waits_in_words(seconds: float, words: str) -> None:
    assert describe_wait(timedelta(seconds=seconds)) == words


@pytest.mark.parametrize("name", ["", "Nowhere", "../../etc/passwd", "Europe", None, 3, "a" * 999])
def test_what_is_no_zone_is_none(name: object) -> None:
    assert read_zone(name) is None


def test_zones_to_choose_from_can_be_read() -> None:
    names = list_zones(ZoneInfo("Etc/GMT+5"))
    assert names[0] == "UTC"
    assert [one for one in names if one.startswith("Etc")] == ["Etc/GMT+5"]
    assert {"Europe/Berlin", "Asia/Kathmandu"} <= set(names)
    assert all(read_zone(name) for name in names)


def test_a_spark_covers_seven_days_up_to_now() -> None:
    hour = 498_744
    assert build_spark({}, hour=hour) is None
    assert build_spark({hour - 168: 5, hour + 1: 5}, hour=hour) is None
    drawn = build_spark({hour: 3, hour - 5: 1, hour - 167: 2}, hour=hour)
    assert drawn is not None
    heights = [float(point.split(" ")[1]) for point in drawn.line[1:].split("L")]
    assert len(heights) == 28
    assert heights[-1] == 2.0  # four runs in the last six hours: the most
    assert heights[0] == SPARK_HEIGHT / 2
    assert set(heights[1:-1]) == {SPARK_HEIGHT - 2.0}
    assert drawn.text == "Seven days, from 0 to 4 runs in six hours"


@given(st.integers(0, 10**9))
def test_levels_reach_over_everything(most: int) -> None:
    levels = find_levels(most)
    assert levels[0] == 0
    assert levels[-1] >= max(most, 1)
    assert 3 <= len(levels) <= 6
    assert len({after - before for before, after in pairwise(levels)}) == 1


@given(st.lists(st.integers(0, 10**6), max_size=200))
def test_bars_stay_in_their_chart(counts: list[int]) -> None:
    chart = build_bars([(f"p{at}", "", count) for at, count in enumerate(counts)])
    assert [bar.count for bar in chart.bars] == counts
    for bar in chart.bars:
        assert bar.x >= chart.left
        assert bar.x + bar.width <= chart.width + 0.1
        assert bar.y >= 0
        assert bar.y + bar.height == pytest.approx(chart.bottom, abs=0.02)
    assert [bar for bar in chart.bars if bar.count == max(counts) > 0 and bar.height < 50] == []

"""Rollups add up to what a count of the runs would say, to the millisecond."""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.triggers import MILLISECOND, T0
from tracking.rollups.hours import (
    LAST_24_HOURS,
    WindowEdge,
    build_base_id,
    build_hour_id,
    build_increments,
    build_recent,
    hour_of,
    merge_hours,
    start_of_hour,
)
from tracking.runs import Decision, Outcome

MINUTE = timedelta(minutes=1)
START = T0 - LAST_24_HOURS


NEW = Decision(Outcome.COUNTED, "r", is_new_person=True)
KNOWN = Decision(Outcome.COUNTED, "r")
DUPLICATE = Decision(Outcome.DUPLICATE, "r")


def apply_increments(document: dict[str, Any], increments: dict[str, int]) -> None:
    """Do to a dictionary what `$inc` does to a document."""
    for path, amount in increments.items():
        *parents, leaf = path.split(".")
        part = document
        for name in parents:
            part = part.setdefault(name, {})
        part[leaf] = part.get(leaf, 0) + amount


def build_open(*runs: tuple[datetime, Decision]) -> dict[str, Any]:
    """Return the open hours of a base document that counted these."""
    increments: dict[str, int] = {}
    for at, decision in runs:
        build_increments(increments, at, decision)
    base: dict[str, Any] = {"h": {}}
    apply_increments(base, increments)
    open_hours: dict[str, Any] = base["h"]
    return open_hours


def build_runs(times: Sequence[datetime]) -> dict[str, Any]:
    return build_open(*((at, NEW) for at in times))


def count_window(edge: WindowEdge, recent: Any, open_hours: Any, closed: Any, runs: Any) -> int:
    """Count as the reader does: whole minutes from rollups, the minute that is cut from runs."""
    whole, cut = edge.count_whole(recent, open_hours, closed)
    return whole + (sum(edge.start <= at < edge.minute_end for at in runs) if cut else 0)


def test_the_increments_of_a_batch() -> None:
    at = T0.replace(minute=47)
    assert build_open(
        (at, NEW), (at + MINUTE, KNOWN), (at, DUPLICATE), (at, DUPLICATE),
        (at - 30 * MINUTE, DUPLICATE),
    ) == {
        str(hour_of(at)): {"n": 2, "m": {"47": 1, "48": 1}, "p": {"3": 1}, "d": {"1": 1, "3": 2}},
    }  # fmt: skip


def test_hours_are_numbered_in_utc() -> None:
    hour = hour_of(T0)
    assert start_of_hour(hour) <= T0 < start_of_hour(hour + 1)
    assert start_of_hour(hour) == T0.replace(minute=0, second=0, microsecond=0)
    assert hour_of(start_of_hour(hour) - MILLISECOND) == hour - 1


def test_document_ids_are_unambiguous() -> None:
    names = ["a", "a:b", "a:s1", "a:h1", "a:b:b", ""]
    ids = [one for name in names for one in (build_base_id(name), build_hour_id(name, 1))]
    assert len(set(ids)) == len(ids)


def test_merged_hours_are_sums() -> None:
    parts = [
        {"n": 2, "m": {"1": 1, "59": 1}, "d": {"0": 5}},
        {"d": {"0": 1, "3": 1}},
        {"n": 1, "m": {"1": 1}, "p": {"0": 1}},
    ]
    assert merge_hours(parts) == {
        "n": 3, "m": {"1": 2, "59": 1}, "d": {"0": 6, "3": 1}, "p": {"0": 1},
    }  # fmt: skip


@pytest.mark.parametrize(
    "start",
    [
        START,
        START.replace(second=30, microsecond=0),
        START.replace(second=0, microsecond=0),
        START.replace(second=0, microsecond=1000),
        START.replace(second=59, microsecond=999_000),
        start_of_hour(hour_of(START)),
        start_of_hour(hour_of(START)) - MILLISECOND,
        start_of_hour(hour_of(START)) + 59 * MINUTE + MINUTE / 2,
    ],
    ids=lambda start: start.strftime("%M:%S.%f")[:-3],
)
def test_a_run_is_inside_from_the_very_millisecond_on(start: datetime) -> None:
    edge = WindowEdge(start)
    for offset in [*range(-3, 4), -60_000, -59_999, 59_999, 60_000, 60_001, 3_600_000]:
        run = start + offset * MILLISECOND
        expected = int(offset >= 0)
        hour = str(hour_of(run))
        open_hours = build_runs([run])
        assert count_window(edge, {}, open_hours, None, [run]) == expected
        recent = build_recent({int(hour): open_hours[hour]["n"]})
        closed = open_hours[hour] if hour_of(run) == edge.hour else None
        assert count_window(edge, recent, {}, closed, [run]) == expected


@given(
    start=st.integers(0, 2 * 3_600_000).map(lambda ms: START + ms * MILLISECOND),
    near=st.lists(st.integers(-130_000, 130_000), max_size=12),
    far=st.lists(st.integers(-5 * 3_600_000, 30 * 3_600_000), max_size=30),
    seed=st.randoms(use_true_random=False),
)
def test_windows_equal_a_count_however_runs_are_spread(
    start: datetime, near: list[int], far: list[int], seed: random.Random
) -> None:
    """Runs in open hours or folded, against counting them."""
    edge = WindowEdge(start)
    runs = [start + offset * MILLISECOND for offset in near + far]
    still_open: list[datetime] = []
    folded: list[datetime] = []
    for run in runs:
        seed.choice([still_open, folded]).append(run)
    closed = build_runs(folded)
    recent = build_recent({int(hour): parts["n"] for hour, parts in closed.items()})
    counted = count_window(edge, recent, build_runs(still_open), closed.get(str(edge.hour)), runs)
    assert counted == sum(run >= start for run in runs)


def test_no_run_is_read_where_the_window_cuts_none() -> None:
    even = WindowEdge(START.replace(second=0, microsecond=0))
    runs = [even.start, even.start + MILLISECOND, even.start + 59 * MINUTE]
    assert even.count_whole({}, build_runs(runs), None) == (3, 0)
    cut = WindowEdge(even.start + MILLISECOND)
    assert cut.count_whole({}, build_runs(runs), None) == (1, 2)
    assert cut.count_whole({}, build_runs(runs[2:]), None) == (1, 0)


def test_an_hour_of_duplicates_alone_counts_nothing() -> None:
    open_hours = build_open((START, DUPLICATE))
    assert WindowEdge(START).count_whole({}, open_hours, None) == (0, 0)

"""Counts by hour and day, people and outcomes as the API shows them, each with what it is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

from automations.api.bson_json import Json
from tracking.clock import format_time
from tracking.queries.reasons import Reasons
from tracking.queries.run_store import PeopleCount
from tracking.queries.series import Series
from tracking.queries.time_grid import Counts, Unit
from tracking.reports import Funnel, Uncounted


def build_series(series: Series, *, unit: Unit, zone: tzinfo) -> Json:
    """Return a series; a figure that was not kept yet in a bucket is null in it."""
    grid = series.grid
    ends = [*grid.starts[1:], grid.end]
    known = [series.known_since is None or start >= series.known_since for start in grid.starts]
    buckets: list[Json] = []
    for number, (start, end) in enumerate(zip(grid.starts, ends, strict=True)):
        bucket = {
            "start": format_time(start),
            "end": format_time(end),
            "local": _format_local(start, unit, zone),
            **_build_counts(series.total[number], is_known=known[number]),
        }
        if series.outcomes is not None:
            bucket["outcomes"] = series.outcomes[number]
        buckets.append(bucket)
    answer: Json = {
        "unit": unit.value,
        "zone": str(zone),
        "from": format_time(grid.start),
        "to": format_time(grid.end),
        "asOf": format_time(series.as_of),
        "pending": series.pending,
        "isExact": series.is_exact,
        "exactSince": format_time(series.exact_since),
        "knownSince": None if series.known_since is None else format_time(series.known_since),
        "totals": _build_counts(_sum(series.total), is_known=all(known)),
        "buckets": buckets,
    }
    if series.by_automation:
        answer["automations"] = {
            automation_id: [one.counted for one in counts]
            for automation_id, counts in series.by_automation.items()
        }
    return answer


def build_people(people: PeopleCount, from_: datetime, to: datetime) -> Json:
    """Return how many distinct people there are; at least so many, if it is not exact."""
    return {
        "count": people.people,
        "isExact": people.is_exact,
        "from": format_time(from_),
        "to": format_time(to),
    }


def build_outcomes(
    funnel: Funnel, reasons: Reasons, uncounted: Uncounted, *, words: Mapping[str, str]
) -> Json:
    """Return what became of runs, and of what was no run; `words` say each reason plainly."""
    return {
        "from": format_time(funnel.from_),
        "to": format_time(funnel.to),
        "asOf": format_time(funnel.as_of),
        "pending": funnel.pending,
        "isExact": funnel.is_exact,
        "funnel": {
            "triggered": funnel.triggered,
            "opened": funnel.opened,
            "asked": funnel.asked,
            "completed": funnel.completed,
        },
        "steps": _nest(funnel.steps),
        "reasons": {
            "runs": reasons.runs,
            "isExact": reasons.is_exact,
            "list": [
                {"step": one.step, "state": one.state, "reason": one.reason, "code": one.code,
                 "subcode": one.subcode, "runs": one.runs}
                for one in reasons.reasons
            ],
        },
        "uncounted": {
            "duplicates": uncounted.duplicates,
            "redelivered": uncounted.redelivered,
            "ignored": [
                {"reason": reason, "meaning": words.get(reason, reason), "events": count}
                for reason, count in sorted(uncounted.ignored.items(), key=lambda one: -one[1])
            ],
        },
    }  # fmt: skip


def _build_counts(counts: Counts, *, is_known: bool) -> Json:
    return {
        "counted": counts.counted,
        "duplicates": counts.duplicates if is_known else None,
        "newPeople": counts.new_people if is_known else None,
    }


def _sum(parts: Sequence[Counts]) -> Counts:
    total = Counts()
    for one in parts:
        total.add(one)
    return total


def _nest(steps: Mapping[str, int]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for name, count in steps.items():
        step, _, state = name.partition(".")
        nested.setdefault(step, {})[state] = count
    return nested


def _format_local(start: datetime, unit: Unit, zone: tzinfo) -> str:
    local = start.astimezone(zone)
    if unit is Unit.HOUR:
        return local.isoformat(timespec="minutes")
    return local.date().isoformat()


def describe_window(values: Mapping[str, Any]) -> Json:
    """Return the range that was asked for, null where it was open."""
    return {
        name: None if values.get(name) is None else format_time(values[name])
        for name in ("from", "to")
    }

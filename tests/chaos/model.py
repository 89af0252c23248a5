"""The reference: what must be stored, from nothing but the acknowledged events."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from pymongo.database import Database

from automations.demo.simulation import SimulatedEvent


class Verdict(NamedTuple):
    """What is missing and what is there too often, a line for each."""

    lost: list[str]
    double: list[str]


def compare(
    events: Iterable[SimulatedEvent],
    automations: Mapping[tuple[str, str], str],
    database: Database[dict[str, Any]],
    *,
    window: timedelta,
) -> Verdict:
    """Compare the database with all events; `automations` are ids by (account, simulated kind)."""
    verdict = Verdict([], [])
    triggers = {one["_id"]: one for one in database["automation_triggers"].find()}
    runs = {one["_id"]: one for one in database["automation_runs"].find()}
    times = defaultdict(list)
    for run in runs.values():
        times[run["automationId"], run["userId"]].append(run["createdAt"])
    for event in events:
        if not event.is_match:
            continue
        one = triggers.pop(
            f"{event.account_id}:{event.kind}:{event.event_id}", {"outcome": "missing"}
        )
        outcome = one.get("outcome", "not counted")
        pair = (automations[event.account_id, event.sim_kind], event.user_id)
        is_run = outcome == "counted" and one["runId"] in runs
        is_explained = outcome == "duplicate" and any(
            abs(at - one["createdAt"]) <= window for at in times[pair]
        )
        if not (is_run or is_explained):
            verdict.lost.append(f"event {event.event_id} by {pair}: {outcome}")
    verdict.double.extend(f"trigger {one} of no acknowledged event" for one in triggers)
    for pair, moments in times.items():
        near = [b for a, b in pairwise(sorted(moments)) if b - a <= window]
        verdict.double.extend(f"run of {pair} at {at}, within the window" for at in near)
    counts = Counter(run["eventId"] for run in runs.values())
    verdict.double.extend(f"event {one}: {n} runs" for one, n in counts.items() if n > 1)
    found = Counter(run["automationId"] for run in runs.values())
    for automation in database["automations"].find():
        name, total = str(automation["_id"]), automation["totalRuns"]
        wrong = verdict.lost if total < found[name] else verdict.double
        wrong.extend([f"total of {name}: {total}, runs: {found[name]}"] * (total != found[name]))
    return verdict

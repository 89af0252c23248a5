"""What became of a run's steps: the rules by which reports add up, in any order, told any number of
times. Pure.

A run holds one result for each step. `sent` wins over every other, the earliest if there are two (a
duplicate is answered too, on the same run); among the others the newest wins. The counts of an hour
follow from the results alone: when one replaces another, its state is counted in the other's place.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from tracking.rollups.hours import hour_of

Document = dict[str, Any]

SENT = "sent"
COMPLETED = "completed"


class StepOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One report: `step` of the run came to `state` at `at` (aware UTC, whole milliseconds).

    `code` and `subcode` are Meta's error, `reason` a word of ours. `is_completed`: this step was
    the last thing that the run was for. `run_created_at` is not needed: the run knows it.
    """

    run_id: Any
    automation_id: str
    step: str
    state: str
    at: datetime
    run_created_at: datetime | None = None
    code: int | None = None
    subcode: int | None = None
    reason: str | None = None
    is_completed: bool = False

    def __post_init__(self) -> None:
        """Refuse names that would be paths in the database."""
        for name in (self.step, self.state):
            if not name or "." in name or name.startswith("$"):
                raise ValueError("a step and a state should be plain names")

    def to_document(self) -> Document:
        """Return the result as a run holds it, without what is not there."""
        document = {
            "state": self.state, "at": self.at,
            "code": self.code, "subcode": self.subcode, "reason": self.reason,
        }  # fmt: skip
        return {name: value for name, value in document.items() if value is not None}


class OutcomePlan(msgspec.Struct):
    """What has to be written: the `$set` of each run, the `$inc` of each (automation, hour)."""

    runs: dict[Any, Document]
    hours: dict[tuple[str, int], dict[str, int]]


def plan_outcomes(outcomes: Iterable[StepOutcome], runs: Mapping[Any, Document]) -> OutcomePlan:
    """Return what the reports change. `runs` are the stored runs by id; a run that is gone is left.

    Works on its arguments only.
    """
    steps = {run_id: dict(run.get("steps") or {}) for run_id, run in runs.items()}
    completed = {run_id: run.get("completedAt") for run_id, run in runs.items()}
    plan = OutcomePlan({}, {})
    for outcome in outcomes:
        run_id = outcome.run_id
        if run_id not in runs:
            continue
        changes: Document = {}
        counts: dict[str, int] = {}
        before, after = steps[run_id].get(outcome.step), outcome.to_document()
        if before is None or rank_result(after) > rank_result(before):
            steps[run_id][outcome.step] = after
            changes[f"steps.{outcome.step}"] = after
            if before is not None:
                _add(counts, f"{outcome.step}.{before['state']}", -1)
            _add(counts, f"{outcome.step}.{outcome.state}", 1)
        if outcome.is_completed:
            known = completed[run_id]
            if known is None or outcome.at < known:
                completed[run_id] = changes["completedAt"] = outcome.at
            if known is None:
                _add(counts, COMPLETED, 1)
        if changes:
            plan.runs.setdefault(run_id, {}).update(changes)
        run = runs[run_id]
        hour = plan.hours.setdefault((run["automationId"], hour_of(run["createdAt"])), {})
        for name, count in counts.items():
            _add(hour, name, count)
    plan.hours = {
        key: {name: count for name, count in counts.items() if count}
        for key, counts in plan.hours.items()
        if any(counts.values())
    }
    return plan


def rank_result(result: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what orders two results of one step of one run: the higher one stays."""
    is_sent = result["state"] == SENT
    age = result["at"].timestamp()
    return (
        is_sent,
        -age if is_sent else age,
        # Two reports of the same instant: any rule will do, if it is always the same.
        result["state"],
        result.get("reason") or "",
        result.get("code") or 0,
        result.get("subcode") or 0,
    )


def flatten_counts(counts: Mapping[str, Any]) -> dict[str, int]:
    """Return an hour's nested counts as `{"<step>.<state>": n, "completed": n}`, without zeros."""
    flat: dict[str, int] = {}
    for name, value in counts.items():
        parts = {f"{name}.{state}": n for state, n in value.items()} if isinstance(
            value, Mapping) else {name: value}  # fmt: skip
        flat |= {key: n for key, n in parts.items() if n}
    return flat


def _add(counts: dict[str, int], name: str, count: int) -> None:
    counts[name] = counts.get(name, 0) + count

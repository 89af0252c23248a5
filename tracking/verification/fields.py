"""Every automation has its fields and its base."""

from collections.abc import Iterator
from typing import Any

from tracking.rollups.hours import build_base_id
from tracking.verification.findings import Finding, Scope, build_finding, describe_some

_BATCH = 1000
_FIX = "run 'python manage.py add_run_fields'"


def check_fields(scope: Scope) -> Iterator[Finding]:
    """`totalRuns` is a number and `lastRunAt` a time or null; bases are taken, hours are built."""
    automations, stats = scope.database["automations"], scope.database["automation_run_stats"]
    # `$type` matches what an array holds as well: those are no numbers.
    wrong_types = {
        "$or": [
            {"totalRuns": {"$not": {"$type": ["int", "long", "double"]}}},
            {"totalRuns": {"$type": "array"}},
            {"lastRunAt": {"$exists": False}},
            {"lastRunAt": {"$not": {"$type": ["date", "null"]}}},
        ]
    }
    wrong = [str(one["_id"]) for one in automations.find(wrong_types, {"_id": 1})]
    yield build_finding(
        "run fields of automations", f"{len(wrong)} without or of another type"
        + (f": {describe_some(wrong)}" if wrong else ""), "0", is_ok=not wrong, fix=_FIX,
    )  # fmt: skip
    without = list(_list_without_base(automations, stats))
    unfinished = [
        one["automationId"]
        for one in stats.find({"rollupsSince": {"$type": "date"}}, {"automationId": 1})
    ]
    figure = f"{len(without)} without a base, {len(unfinished)} with hours to build"
    named = describe_some({*without, *unfinished})
    yield build_finding(
        "bases of totals", figure + (f": {named}" if named else ""), "0",
        is_ok=not named, fix=_FIX,
    )  # fmt: skip


def _list_without_base(automations: Any, stats: Any) -> Iterator[str]:
    """Yield automations that had runs before us, by what they hold, and no base.

    One that is new has none until its first trigger, and holds 0.
    """
    has_runs = {"$or": [{"totalRuns": {"$nin": [0, None]}}, {"lastRunAt": {"$type": "date"}}]}
    batch: list[str] = []
    for document in automations.find(has_runs, {"_id": 1}):
        batch.append(str(document["_id"]))
        if len(batch) >= _BATCH:
            yield from _drop_known(batch, stats)
            batch = []
    yield from _drop_known(batch, stats)


def _drop_known(automation_ids: list[str], stats: Any) -> list[str]:
    ids = {build_base_id(one): one for one in automation_ids}
    known = {one["_id"] for one in stats.find({"_id": {"$in": list(ids)}}, {"_id": 1})}
    return [one for base_id, one in ids.items() if base_id not in known]

"""No two counted runs of one automation and person within the window (I1)."""

from collections.abc import Iterator, Mapping
from typing import Any

from tracking.verification.findings import Finding, Scope, build_finding, describe_some
from tracking.verification.sample import list_sample

_RUNS = 2000
_BATCH = 10_000
_INDEX = "automationId_userId_createdAt"


def check_pairs(scope: Scope) -> Iterator[Finding]:
    """Look at neighbours: in the newest runs of each automation, or in all, by the index alone."""
    scan = _scan_all(scope) if scope.is_full else _scan_newest(scope)
    wrong, count = [], 0
    before: Mapping[str, Any] | None = None
    for run in scan:
        count += 1
        if before is not None and _pair_of(before) == _pair_of(run):
            # Sorted from the newest: `before` is the later one of the two.
            is_near = before["createdAt"] - run["createdAt"] <= scope.window
            if is_near and _is_ours(scope, before):
                wrong.append(f"{run['automationId']} at {before['createdAt'].isoformat()}")
        before = run
    yield build_finding(
        "runs of a pair within the window",
        f"{len(wrong)} in {count} runs" + (f": {describe_some(wrong)}" if wrong else ""), "0",
        is_ok=not wrong,
        fix="delete the run that no trigger names (runId), then run "
        "'python manage.py reconcile_runs'",
    )  # fmt: skip


def _pair_of(run: Mapping[str, Any]) -> tuple[Any, Any]:
    return run["automationId"], run["userId"]


def _is_ours(scope: Scope, run: Mapping[str, Any]) -> bool:
    """Return whether the later run was counted by us: an older product is not judged."""
    query = {"_id": run["_id"]} if "_id" in run else dict(run)
    query["eventId"] = {"$exists": True}
    return scope.database["automation_runs"].find_one(query, {"_id": 1}) is not None


def _scan_all(scope: Scope) -> Iterator[Mapping[str, Any]]:
    """Yield all runs by pair, the newest first: sorted by the index, which holds all it takes."""
    fields = {"_id": 0, "automationId": 1, "userId": 1, "createdAt": 1}
    dates = {"createdAt": {"$type": "date"}}
    runs = scope.database["automation_runs"].find(dates, fields, batch_size=_BATCH)
    order = [("automationId", 1), ("userId", 1), ("createdAt", -1)]
    yield from runs.sort(order).hint(_INDEX)


def _scan_newest(scope: Scope) -> Iterator[Mapping[str, Any]]:
    """Yield the newest runs of each automation of the sample, by pair, the newest first."""
    fields = {"automationId": 1, "userId": 1, "createdAt": 1}
    for automation_id, _ in list_sample(scope):
        query = {"automationId": automation_id, "createdAt": {"$type": "date"}}
        found = scope.database["automation_runs"].find(query, fields, batch_size=_BATCH)
        newest = list(found.sort("createdAt", -1).limit(_RUNS))
        newest.sort(key=lambda run: str(run["userId"]))  # stable: the newest of each stays first
        yield from newest

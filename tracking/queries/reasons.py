"""Why steps came to what they did: runs by step, state and reason, counted from the runs."""

from typing import Any

import msgspec
from pymongo.database import Database

from tracking.mongo.errors import bounded
from tracking.queries.run_filters import RunFilter, build_run_query

Document = dict[str, Any]

# Reasons are counted over at most so many runs, the newest: about a second of the server's time.
MOST_RUNS_FOR_REASONS = 100_000


class Reason(msgspec.Struct, frozen=True):
    """How many runs have a step in a state for a reason; `code` and `subcode` are Meta's."""

    step: str
    state: str
    reason: str | None
    code: int | None
    subcode: int | None
    runs: int


class Reasons(msgspec.Struct, frozen=True):
    """What became of steps, the most frequent first, over `runs` runs; all there are if exact."""

    reasons: list[Reason]
    runs: int
    is_exact: bool


class ReasonStore:
    """Reads the steps of runs. Raises TrackingUnavailable."""

    def __init__(self, database: Database[Document], *, seconds: float) -> None:
        self._seconds = seconds
        self._runs = database["automation_runs"]

    def summarize(self, wanted: RunFilter) -> Reasons:
        """Return the reasons among the newest MOST_RUNS_FOR_REASONS runs that are asked for."""
        pipeline = build_reasons_pipeline(build_run_query(wanted))
        with bounded(self._seconds):
            [row] = self._runs.aggregate(pipeline, allowDiskUse=True)
        runs = row["all"][0]["runs"] if row["all"] else 0
        reasons = [_build_reason(one["_id"], one["runs"]) for one in row["reasons"]]
        reasons.sort(key=lambda one: (-one.runs, one.step, one.state, one.reason or ""))
        is_exact = runs <= MOST_RUNS_FOR_REASONS
        return Reasons(reasons, min(runs, MOST_RUNS_FOR_REASONS), is_exact)


def build_reasons_pipeline(query: Document) -> list[Document]:
    """Return the pipeline that counts runs by what became of each of their steps."""
    steps = {"$cond": [{"$eq": [{"$type": "$steps"}, "object"]}, {"$objectToArray": "$steps"}, []]}
    fields = {name: f"$steps.v.{name}" for name in ("state", "reason", "code", "subcode")}
    return [
        {"$match": query},
        # Without it the order is the planner's; the index has the newest first.
        {"$sort": {"createdAt": -1}},
        {"$limit": MOST_RUNS_FOR_REASONS + 1},
        {"$project": {"_id": 0, "steps": steps}},
        {"$facet": {
            "all": [{"$count": "runs"}],
            "reasons": [
                {"$unwind": "$steps"},
                {"$match": {"steps.v.state": {"$type": "string"}}},
                {"$group": {"_id": {"step": "$steps.k"} | fields, "runs": {"$sum": 1}}},
            ],
        }},
    ]  # fmt: skip


def _build_reason(key: Document, runs: int) -> Reason:
    return Reason(
        step=key["step"],
        state=key["state"],
        reason=key.get("reason"),
        code=key.get("code"),
        subcode=key.get("subcode"),
        runs=runs,
    )

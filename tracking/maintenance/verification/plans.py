"""Every read uses its index, and examines little more than it returns."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import msgspec
from pymongo.database import Database

from tracking.ids import build_contact_id
from tracking.maintenance.replay import UNTRACKED
from tracking.maintenance.verification.findings import Finding, Scope, build_finding
from tracking.queries.stats import build_count_pipeline
from tracking.rollups.hours import build_hour_id, build_total_ids, hour_of
from tracking.rollups.outcome_store import build_outcome_id
from tracking.rollups.rebuild import build_hours_pipeline
from tracking.runs import Outcome

# Documents examined for each that is returned; a few more are no matter.
MOST_PER_RETURNED = 10
_FREE = 100

Document = dict[str, Any]

_CHARTS = (
    ("hours of a chart", "automation_run_stats", build_hour_id),
    ("outcomes of a chart", "automation_hours", build_outcome_id),
)


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """One read: a `find` with its filter and sort, or an aggregation. `name` is for people."""

    name: str
    collection: str
    query: Document = msgspec.field(default_factory=dict)
    sort: dict[str, int] = msgspec.field(default_factory=dict)
    pipeline: list[Document] | None = None
    limit: int = 0

    def build_command(self) -> Document:
        """Return the read as a command that can be explained."""
        if self.pipeline is not None:
            return {"aggregate": self.collection, "pipeline": self.pipeline, "cursor": {}}
        command: Document = {"find": self.collection, "filter": self.query}
        if self.sort:
            command["sort"] = self.sort
        if self.limit:
            command["limit"] = self.limit
        return command


class PlanCost(msgspec.Struct, frozen=True):
    """What MongoDB says of a plan that it has run."""

    stages: frozenset[str]
    examined: int
    returned: int

    @property
    def is_good(self) -> bool:
        """Whether it scans no collection and examines little for nothing."""
        most = max(_FREE, MOST_PER_RETURNED * self.returned)
        return "COLLSCAN" not in self.stages and self.examined <= most


def check_plans(scope: Scope) -> Iterator[Finding]:
    """Explain the reads of tracking."""
    yield from explain_reads(scope, list_reads(scope))


def explain_reads(
    scope: Scope, reads: Iterable[Read], *, what: str = "query plans"
) -> Iterator[Finding]:
    """Have every read run and explained; one line for all that are good, one for each other."""
    count = 0
    wrong = []
    for read in reads:
        count += 1
        answer = scope.database.command("explain", read.build_command(), verbosity="executionStats")
        cost = read_cost(answer)
        if not cost.is_good:
            wrong.append((read, cost))
    yield build_finding(
        what, f"{count - len(wrong)} of {count} use their index",
        f"all, {MOST_PER_RETURNED} documents examined for each returned",
        is_ok=not wrong, fix="see the next lines",
    )  # fmt: skip
    for read, cost in wrong:
        scan = "scans the collection, " if "COLLSCAN" in cost.stages else ""
        yield build_finding(
            f"plan of {read.name} ({read.collection})",
            f"{scan}{cost.examined} examined for {cost.returned}", "an index", is_ok=False,
            fix="run 'python manage.py add_run_indexes'",
        )  # fmt: skip


def read_cost(answer: Mapping[str, Any]) -> PlanCost:
    """Return the cost in an answer to `explain`.

    Its shape differs by version, by engine, for aggregations and on shards
    (https://www.mongodb.com/docs/manual/reference/explain-results/), but not its names.
    """
    stages: set[str] = set()
    examined = returned = 0
    is_first = True
    for part in _walk(answer):
        if isinstance(part.get("stage"), str):
            stages.add(part["stage"])
        if "totalDocsExamined" in part and "nReturned" in part and is_first:
            examined, returned = part["totalDocsExamined"], part["nReturned"]
            is_first = False  # the whole; others below it are parts
    return PlanCost(frozenset(stages), examined, returned)


def _walk(part: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every document inside, the outer ones first; not the plans that were rejected."""
    if isinstance(part, Mapping):
        yield part
        for name, inner in part.items():
            if name not in ("rejectedPlans", "command", "parsedQuery", "allPlansExecution"):
                yield from _walk(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _walk(inner)


def list_reads(scope: Scope) -> Iterator[Read]:
    """Yield the reads, of the automation and the person of the newest run."""
    run = _find_example(scope.database)
    automation_id, user_id = run["automationId"], run["userId"]
    now, window = scope.now, scope.window
    ids = build_total_ids(automation_id)
    minute = {"$gte": now - timedelta(minutes=1), "$lt": now}
    recent = {"automationId": automation_id, "createdAt": {"$gte": now - timedelta(hours=1)}}
    yield Read(
        name="known triggers", collection="automation_triggers",
        query={"_id": {"$in": [f"{automation_id}:comment:{number}" for number in range(10)]}},
    )  # fmt: skip
    yield Read(
        name="contacts of a flush", collection="automation_contacts",
        query={"_id": {"$in": [build_contact_id(automation_id, user_id)]}},
    )  # fmt: skip
    yield Read(
        name="counts of a list", collection="automation_run_stats",
        query={"_id": {"$in": [*ids, build_hour_id(automation_id, hour_of(now))]}},
    )  # fmt: skip
    yield Read(
        name="runs of a minute that is cut", collection="automation_runs",
        pipeline=build_count_pipeline([automation_id], minute),
    )  # fmt: skip
    yield Read(
        name="runs of a pair", collection="automation_runs",
        query={"automationId": automation_id, "userId": {"$in": [user_id]},
               "createdAt": {"$gte": now - window}},
    )  # fmt: skip
    yield Read(
        name="runs by minute", collection="automation_runs",
        pipeline=build_hours_pipeline(recent, minutes_per_group=1),
    )  # fmt: skip
    yield Read(
        name="newest runs of an automation", collection="automation_runs",
        query={"automationId": automation_id}, sort={"createdAt": -1}, limit=50,
    )  # fmt: skip
    yield Read(
        name="newest runs of a workspace", collection="automation_runs",
        query={"workspaceId": run["workspaceId"]}, sort={"createdAt": -1}, limit=50,
    )  # fmt: skip
    yield Read(
        name="oldest untracked triggers", collection="automation_triggers",
        query=UNTRACKED, sort={"createdAt": 1}, limit=500,
    )  # fmt: skip
    yield Read(
        name="taps that continue a trigger", collection="automation_triggers",
        query={"continues": {"$in": [f"{automation_id}:comment:1"]}, "runId": None},
    )  # fmt: skip
    yield Read(
        name="duplicates of a run", collection="automation_triggers",
        query={"runId": run["_id"], "outcome": Outcome.DUPLICATE.value},
    )  # fmt: skip
    yield Read(
        name="taps behind a run", collection="automation_triggers",
        query={"continues": {"$exists": True, "$in": [f"{automation_id}:comment:1"]}},
    )  # fmt: skip
    for name, collection, build_id in _CHARTS:
        hours = {"$gte": build_id(automation_id, hour_of(now) - 24),
                 "$lte": build_id(automation_id, hour_of(now))}  # fmt: skip
        yield Read(
            name=name, collection=collection, query={"_id": hours, "automationId": automation_id}
        )
    yield Read(
        name="live counts to fold", collection="automation_run_stats",
        query={"stripe": {"$gte": 0}},
    )  # fmt: skip
    yield Read(
        name="automations of an account", collection="automations",
        query={"accountId": {"$in": [run["accountId"]]}, "isActive": True},
    )  # fmt: skip
    yield Read(
        name="automations of a workspace", collection="automations",
        query={"workspaceId": {"$in": [run["workspaceId"]]}, "deletedAt": None},
    )  # fmt: skip


def _find_example(database: Database[Document]) -> Document:
    """Return ids as the newest run has them, made up where there is none."""
    fields = {"automationId": 1, "userId": 1, "workspaceId": 1}
    run = database["automation_runs"].find_one({}, fields, sort=[("_id", -1)]) or {}
    automation = database["automations"].find_one({"isActive": True}, {"accountId": 1}) or {}
    example = dict.fromkeys(fields, "none") | {"accountId": "none"}
    found = {**run, "accountId": automation.get("accountId")}
    texts = {name: found[name] for name in example if isinstance(found.get(name), str)}
    return {"_id": run.get("_id")} | example | texts

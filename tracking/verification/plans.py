"""Every read uses its index, and examines little more than it returns."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from tracking.verification.findings import Finding, Scope, build_finding
from tracking.verification.reads import Read, list_reads

# Documents examined for each that is returned; a few more are no matter.
MOST_PER_RETURNED = 10
_FREE = 100


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

"""The table of checks, in the order in which they are run and printed."""

from collections.abc import Iterable, Iterator

from pymongo.errors import OperationFailure

from tracking.maintenance.verification.capacity import check_growth, check_speed
from tracking.maintenance.verification.counts import check_contacts, check_counts, check_pairs
from tracking.maintenance.verification.findings import Check, Finding, Scope, State
from tracking.maintenance.verification.schema import (
    check_expiry,
    check_fields,
    check_index_use,
    check_indexes,
)
from tracking.maintenance.verification.switches import check_counting, check_switches

CHECKS: dict[str, Check] = {
    "fields": check_fields,
    "indexes": check_indexes,
    "expiry": check_expiry,
    "plans": check_index_use,
    "speed": check_speed,
    "counts": check_counts,
    "contacts": check_contacts,
    "pairs": check_pairs,
    "switches": check_switches,
    "counting": check_counting,
    "growth": check_growth,
}


def register_check(name: str, check: Check) -> None:
    """Add a check of another app, about its own collections; called once, when it is loaded."""
    CHECKS[name] = check


def run_checks(scope: Scope, names: Iterable[str] = ()) -> Iterator[Finding]:
    """Run all checks, or those named, and yield what they find as they find it.

    What MongoDB refuses, for want of a role, is a finding too. Raises PyMongoError when it is away.
    """
    for name in names or CHECKS:
        try:
            yield from CHECKS[name](scope)
        except OperationFailure as error:
            yield Finding(
                what=name,
                state=State.WRONG,
                figure=f"MongoDB refused to answer (code {error.code})",
                limit="an answer",
                fix="give the user of MONGODB_URI the roles readWrite and clusterMonitor",
            )

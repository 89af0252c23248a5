"""The table of checks, in the order in which they are run and printed."""

from collections.abc import Iterable, Iterator

from pymongo.errors import OperationFailure

from tracking.verification.contacts import check_contacts
from tracking.verification.counts import check_counts
from tracking.verification.expiry import check_expiry
from tracking.verification.fields import check_fields
from tracking.verification.findings import Check, Finding, Scope, State
from tracking.verification.growth import check_growth
from tracking.verification.indexes import check_indexes
from tracking.verification.pairs import check_pairs
from tracking.verification.plans import check_plans
from tracking.verification.speed import check_speed
from tracking.verification.switches import check_switches, check_untracked

CHECKS: dict[str, Check] = {
    "fields": check_fields,
    "indexes": check_indexes,
    "expiry": check_expiry,
    "plans": check_plans,
    "speed": check_speed,
    "counts": check_counts,
    "contacts": check_contacts,
    "pairs": check_pairs,
    "switches": check_switches,
    "untracked": check_untracked,
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

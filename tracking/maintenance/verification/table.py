"""The table of checks, in the order in which they are run; those of counting itself."""

from collections.abc import Iterable, Iterator
from datetime import timedelta

from pymongo.errors import OperationFailure

from tracking.conf import conf
from tracking.counting.switch import SwitchState, find_switch_time, read_switch
from tracking.maintenance.status import describe_stuck, read_status
from tracking.maintenance.verification.capacity import check_growth, check_speed
from tracking.maintenance.verification.counts import check_contacts, check_counts, check_pairs
from tracking.maintenance.verification.findings import Check, Finding, Scope, build_finding
from tracking.maintenance.verification.schema import (
    check_expiry,
    check_fields,
    check_ids,
    check_index_use,
    check_indexes,
    check_runs,
)

# After this long it is no burst any more.
LONGEST_WAIT = timedelta(minutes=1)


def check_switches(scope: Scope) -> Iterator[Finding]:
    for name, is_allowed, variable, option in (
        ("tracking", conf.is_enabled, "TRACKING_ENABLED", ""),
        ("stats", conf.is_stats_enabled, "TRACKING_STATS_ENABLED", " --stats"),
    ):
        value = read_switch(scope.database, name)
        since = find_switch_time(scope.database, name)
        figure = value.value + (f" since {since.isoformat(timespec='seconds')}" if since else "")
        fix = f"run 'python manage.py tracking on{option}'"
        if not is_allowed:
            figure = f"off by {variable}"
            fix = f"run without {variable}; DEPLOYMENT.md says in which order"
        is_ok = value is SwitchState.ON and is_allowed
        yield build_finding(f"switch of {name}", figure, "on", is_ok=is_ok, fix=fix)


def check_counting(scope: Scope) -> Iterator[Finding]:
    status = read_status(scope.database, now=scope.now)
    lag = status.lag(scope.now)
    is_late = lag > LONGEST_WAIT
    waits = f", the oldest for {lag.total_seconds():.0f} s" if status.waiting.triggers else ""
    is_on = read_switch(scope.database) is SwitchState.ON
    yield build_finding(
        "triggers waiting to be counted",
        f"{status.waiting.triggers}{waits}",
        f"none for more than {LONGEST_WAIT.total_seconds():.0f} s",
        is_ok=not is_late,
        fix="start another 'python manage.py run_counter', if every partition has a counter"
        if is_on
        else "run 'python manage.py tracking on'",
    )
    yield build_finding(
        "partitions without a counter",
        f"{len(status.unowned)}, counters: {len(status.counters)}",
        "0 while triggers wait",
        is_ok=not (status.unowned and is_late),
        fix="start 'python manage.py serve' or 'python manage.py run_counter'",
    )
    waiting = f" ({status.waiting.stuck} triggers wait)" if status.stuck else ""
    yield build_finding(
        "automations that cannot be counted",
        f"{len(status.stuck)}{waiting}",
        named=describe_stuck(status.stuck),
        fix="remove the reason, then run 'python manage.py tracking retry'",
    )


CHECKS: dict[str, Check] = {
    "fields": check_fields,
    "ids": check_ids,
    "runs": check_runs,
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
            yield build_finding(
                name,
                f"MongoDB refused to answer (code {error.code})",
                "an answer",
                is_ok=False,
                fix="look at the lines on collections, or give the user of MONGODB_URI the roles "
                "readWrite and clusterMonitor",
            )

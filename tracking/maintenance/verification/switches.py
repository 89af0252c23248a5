"""Counting is on, somebody counts, and nothing waits or is stuck."""

from collections.abc import Iterator
from datetime import timedelta

from tracking.counting.switch import SwitchState, find_switch_time, read_switch
from tracking.maintenance.status import describe_stuck, read_status
from tracking.maintenance.verification.findings import Finding, Scope, build_finding, describe_some

# After this long it is no burst any more.
LONGEST_WAIT = timedelta(minutes=1)


def check_switches(scope: Scope) -> Iterator[Finding]:
    """The stored switches and the environment say on."""
    for name, is_allowed, variable, option in (
        ("tracking", scope.is_enabled, "TRACKING_ENABLED", ""),
        ("stats", scope.is_stats_enabled, "TRACKING_STATS_ENABLED", " --stats"),
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
    """What waits to be counted, who counts it, and which automations cannot be counted."""
    status = read_status(scope.database, now=scope.now)
    lag = status.lag(scope.now)
    is_late = lag > LONGEST_WAIT
    waits = f", the oldest for {lag.total_seconds():.0f} s" if status.waiting.triggers else ""
    is_on = read_switch(scope.database) is SwitchState.ON
    yield build_finding(
        "triggers waiting to be counted", f"{status.waiting.triggers}{waits}",
        f"none for more than {LONGEST_WAIT.total_seconds():.0f} s", is_ok=not is_late,
        fix="start another 'python manage.py run_counter', if every partition has a counter"
        if is_on else "run 'python manage.py tracking on'",
    )  # fmt: skip
    counters = len(status.counters)
    yield build_finding(
        "partitions without a counter", f"{len(status.unowned)}, counters: {counters}",
        "0 while triggers wait", is_ok=not (status.unowned and is_late),
        fix="start 'python manage.py serve' or 'python manage.py run_counter'",
    )  # fmt: skip
    named = describe_some(describe_stuck(status.stuck))
    yield build_finding(
        "automations that cannot be counted", f"{len(status.stuck)}"
        + (f" ({status.waiting.stuck} triggers wait): {named}" if named else ""), "0",
        is_ok=not status.stuck,
        fix="remove the reason, then run 'python manage.py tracking retry'",
    )  # fmt: skip

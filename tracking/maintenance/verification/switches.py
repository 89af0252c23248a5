"""Tracking is on, and nothing waits to be counted."""

from collections.abc import Iterator

from tracking.counting.switch import (
    SwitchState,
    find_switch_time,
    is_stats_switched_on,
    read_switch,
)
from tracking.maintenance.replay import UNTRACKED
from tracking.maintenance.verification.findings import Finding, Scope, build_finding

_MOST = 100_000


def check_switches(scope: Scope) -> Iterator[Finding]:
    """The stored switches and the environment say on."""
    database = scope.database
    state = read_switch(database)
    shown = SwitchState.ON if is_stats_switched_on(database) else SwitchState.OFF
    for name, value, is_allowed, variable, option in (
        ("tracking", state, scope.is_enabled, "TRACKING_ENABLED", ""),
        ("stats", shown, scope.is_stats_enabled, "TRACKING_STATS_ENABLED", " --stats"),
    ):
        since = find_switch_time(database, name)
        figure = value.value + (f" since {since.isoformat(timespec='seconds')}" if since else "")
        fix = f"run 'python manage.py tracking on{option}'"
        if not is_allowed:
            figure = f"off by {variable}"
            fix = f"run without {variable}; DEPLOYMENT.md says in which order"
        is_ok = value is SwitchState.ON and is_allowed
        yield build_finding(f"switch of {name}", figure, "on", is_ok=is_ok, fix=fix)


def check_untracked(scope: Scope) -> Iterator[Finding]:
    """Triggers that were stored and not counted, because tracking was off or failed."""
    waiting = scope.database["automation_triggers"].count_documents(UNTRACKED, limit=_MOST)
    is_on = read_switch(scope.database) is SwitchState.ON
    command = "reconcile_runs" if is_on else "tracking on"
    yield build_finding(
        "untracked triggers waiting", str(waiting), "0", is_ok=not waiting,
        fix=f"run 'python manage.py {command}', which counts them",
    )  # fmt: skip

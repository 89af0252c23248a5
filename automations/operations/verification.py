"""The checks of `verify_run_tracking` about this app's own collections."""

from collections.abc import Iterator
from datetime import timedelta

from automations.accounts.accounts import AccountState, list_accounts
from automations.rules.automation import read_scalar
from automations.rules.store import CAN_MATCH, list_faults
from automations.webhook.dead_letters import list_waiting
from tracking.clock import format_time
from tracking.maintenance.verification.findings import Finding, Scope, build_finding, describe_some

# Long enough for a quiet weekend; Meta unsubscribes an app after an hour of failures.
SILENT_AFTER = timedelta(hours=72)


def check_dead_letters(_: Scope) -> Iterator[Finding]:
    """Deliveries that were kept because this version could not read or store them."""
    letters = list_waiting()
    since = f", the oldest of {format_time(letters[0].arrived_at)}" if letters else ""
    yield build_finding(
        "dead letters waiting", f"{len(letters)}{since}", "0", is_ok=not letters,
        fix="look with 'python manage.py replay_dead_letters --list', replay after an update, "
        "discard what is lost",
    )  # fmt: skip


def check_silence(scope: Scope) -> Iterator[Finding]:
    """Accounts with automations that Meta has sent nothing for in days."""
    oldest = scope.now - SILENT_AFTER
    accounts = {one.id: one for one in list_accounts()}
    odd = [one for one in accounts.values() if one.state is AccountState.UNREADABLE]
    faults = [f"{one.id} ({one.state_reason})" for one in odd]
    fix = "correct the document of each"
    yield build_finding("accounts that cannot be read", f"{len(odd)}", named=faults, fix=fix)
    named = scope.database["automations"].distinct("accountId", CAN_MATCH)
    active = set(map(read_scalar, named)) & accounts.keys()
    silent = []
    for account_id in active:
        last = accounts[account_id].last_webhook_at
        heard = last or accounts[account_id].created_at
        if heard is not None and heard < oldest:
            silent.append(f"{account_id} ({format_time(last) if last else 'never'})")
    yield build_finding(
        "accounts gone silent",
        f"{len(silent)} of {len(active)}" + (f": {describe_some(silent)}" if silent else ""),
        f"0 without a webhook in {SILENT_AFTER // timedelta(hours=1)} hours", is_ok=not silent,
        fix="look at the app's subscriptions in Meta's dashboard, and at what /api/webhooks/"
        "instagram answers",
    )  # fmt: skip


def check_automations(_: Scope) -> Iterator[Finding]:
    """Active automations that no event can ever start, and why."""
    faults = list_faults()
    fix = "correct the document of each, or switch it off"
    yield build_finding(
        "active automations that match nothing", f"{len(faults)}", named=faults, fix=fix
    )


CHECKS = {
    "automations": check_automations,
    "dead_letters": check_dead_letters,
    "silence": check_silence,
}

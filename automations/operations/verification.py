"""The checks of `verify_run_tracking` about this app's own collections."""

from collections.abc import Iterator
from datetime import timedelta

from automations.rules.store import list_faults
from automations.webhook.dead_letters import DeadLetterStore
from tracking.clock import format_time
from tracking.maintenance.verification.findings import Finding, Scope, build_finding, describe_some
from tracking.mongo.errors import bounded

# Long enough for a quiet weekend; Meta unsubscribes an app after an hour of failures.
SILENT_AFTER = timedelta(hours=72)


def check_dead_letters(scope: Scope) -> Iterator[Finding]:
    """Deliveries that were kept because this version could not read or store them."""
    letters = DeadLetterStore(scope.database).list_waiting()
    since = f", the oldest of {format_time(letters[0].arrived_at)}" if letters else ""
    yield build_finding(
        "dead letters waiting", f"{len(letters)}{since}", "0", is_ok=not letters,
        fix="look with 'python manage.py replay_dead_letters --list', replay after an update, "
        "discard what is lost",
    )  # fmt: skip


def check_silence(scope: Scope) -> Iterator[Finding]:
    """Accounts with automations that Meta has sent nothing for in days."""
    oldest = scope.now - SILENT_AFTER
    heard_at = {"lastWebhookAt": 1, "createdAt": 1}
    with bounded():
        accounts = {one["_id"]: one for one in scope.database["accounts"].find({}, heard_at)}
        named = {"accountId": {"$in": list(accounts)}, "isActive": True}
        active = set(scope.database["automations"].distinct("accountId", named))
    silent = []
    for account_id in active:
        account = accounts[account_id]
        heard = account.get("lastWebhookAt") or account.get("createdAt")
        if heard is not None and heard < oldest:
            last = account.get("lastWebhookAt")
            silent.append(f"{account_id} ({format_time(last) if last else 'never'})")
    yield build_finding(
        "accounts gone silent",
        f"{len(silent)} of {len(active)}" + (f": {describe_some(silent)}" if silent else ""),
        f"0 without a webhook in {SILENT_AFTER // timedelta(hours=1)} hours", is_ok=not silent,
        fix="look at the app's subscriptions in Meta's dashboard, and at what /api/webhooks/"
        "instagram answers",
    )  # fmt: skip


def check_automations(scope: Scope) -> Iterator[Finding]:
    """Active automations that no event can ever start, and why."""
    faults = list_faults(scope.database)
    fix = "correct the document of each, or switch it off"
    yield build_finding(
        "active automations that match nothing", f"{len(faults)}", named=faults, fix=fix
    )


CHECKS = {
    "automations": check_automations,
    "dead_letters": check_dead_letters,
    "silence": check_silence,
}

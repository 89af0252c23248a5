"""The checks of `verify_run_tracking` about this app's own collections."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from automations.accounts import store as account_store
from automations.webhook.dead_letters import DeadLetterStore
from tracking.clock import format_time
from tracking.maintenance.verification.findings import Finding, Scope, build_finding, describe_some
from tracking.maintenance.verification.plans import Read, explain_reads

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
# Long enough for a quiet weekend; Meta unsubscribes an app after an hour of failures.
SILENT_AFTER = timedelta(hours=72)


def check_outbox_plans(scope: Scope) -> Iterator[Finding]:
    """Explain the reads of the worker."""
    lane = {"send.via": "comment", "accountId": "none"}
    due = {"$lte": scope.now}
    jobs = "automation_triggers"
    reads = [
        Read(name="jobs that are due", collection=jobs, query=lane | {"nextAt": due},
             sort={"nextAt": 1}, limit=100),
        Read(name="jobs that are overdue", collection=jobs, limit=100,
             query=lane | {"nextAt": {"$gt": LONG_AGO}, "send.windowEndsAt": due}),
        Read(name="leases that ran out", collection=jobs, query={"lease.until": due}, limit=100),
        Read(name="messages on their way", collection=jobs,
             query={"accountId": "none", "userId": "none", "sendingAt": {"$gt": LONG_AGO}}),
        Read(name="message by its id", collection=jobs, query={"mids": "none"}),
        Read(name="outcomes to tell", collection=jobs, limit=100,
             query={"reportAt": {"$lte": LONG_AGO}}),
        Read(name="lanes whose turn it is", collection="automation_lanes",
             query={"turnAt": {"$gt": scope.now}}, sort={"turnAt": 1}, limit=1),
        Read(name="token by its hash", collection="api_tokens", query={"hash": "none"}),
    ]  # fmt: skip
    yield from explain_reads(scope, reads, what="query plans of sending")


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
    accounts = {one["_id"]: one for one in account_store.list_accounts()}
    active = set(account_store.list_answering(list(accounts)))
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


CHECKS = {
    "outbox_plans": check_outbox_plans,
    "dead_letters": check_dead_letters,
    "silence": check_silence,
}

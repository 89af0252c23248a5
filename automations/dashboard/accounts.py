"""The accounts of a workspace: their state and their queue."""

import hashlib
from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from automations.accounts.accounts import AccountState
from automations.dashboard.access import Reader, workspace_page
from automations.dashboard.formatting import describe_age, describe_wait, format_clock
from automations.outbox.account_status import (
    NO_TOKEN,
    OTHER_WORKSPACE,
    AccountSummary,
    summarize_accounts,
)

_PAUSED = (
    "Paused: its access token no longer works. Log in to Instagram again and store the new token "
    "with manage.py add_account."
)
_RESTRICTED = (
    "Paused: Instagram has restricted the account. Its app says what has to be done about it."
)
_STATES = {
    AccountState.TOKEN_DEAD.value: ("bad", _PAUSED),
    AccountState.RESTRICTED.value: ("bad", _RESTRICTED),
    AccountState.UNREADABLE.value: ("bad", "Paused: its document cannot be read."),
    OTHER_WORKSPACE: ("bad", "Another workspace has this account, so nothing is sent for it here."),
    NO_TOKEN: ("quiet", "No access token. Answers are prepared and counted, but not sent."),
}
_SENDING = {
    "on": ("ok", "Sends."),
    "shadow": ("quiet", "Shadow mode. Answers are prepared and counted, but not sent."),
    "off": ("bad", "Sending is off. Messages wait until their window ends."),
}


@workspace_page
@require_safe
def poll_accounts(request: HttpRequest, reader: Reader) -> HttpResponse:
    """Answer 204 if version `v` is current, else the new list."""
    context = build_accounts_context(reader)
    if request.GET.get("v") == context["accounts_version"]:
        return HttpResponse(status=204)
    return render(request, "automations/dashboard/accounts.html", context)


def build_accounts_context(reader: Reader) -> dict[str, Any]:
    lines = [_describe(summary, reader) for summary in summarize_accounts(reader.workspace_id)]
    digest = hashlib.blake2b(msgspec.json.encode(lines), digest_size=8).hexdigest()
    return {"reader": reader, "accounts": lines, "accounts_version": digest}


def _describe(summary: AccountSummary, reader: Reader) -> dict[str, str]:
    """Return an account in words; `tone` is ok, quiet or bad."""
    tone, state = _STATES.get(summary.state) or _SENDING[summary.sending or "off"]
    heard_at = summary.last_webhook_at
    return {
        "id": summary.account_id,
        "tone": tone,
        "state": state,
        "reason": summary.state_reason or "",
        "queue": _describe_queue(summary, reader),
        "heard": describe_age(heard_at, at=reader.at, zone=reader.zone) if heard_at else "",
    }


def _describe_queue(summary: AccountSummary, reader: Reader) -> str:
    if summary.queued is None:
        return ""
    if not summary.queued:
        return "The queue is empty."
    waiting = f"{summary.queued:,} waiting"
    if summary.finishes_at is None or summary.sending == "off":
        return f"{waiting}."
    wait = describe_wait(summary.finishes_at - reader.at)
    done = format_clock(summary.finishes_at, at=reader.at, zone=reader.zone)
    return f"{waiting}, done in {wait} ({done})."

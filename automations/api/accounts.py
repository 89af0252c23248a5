"""The HTTP API of accounts."""

from __future__ import annotations

from datetime import datetime

from rest_framework.request import Request
from rest_framework.response import Response

from automations.api.base import WorkspaceView
from automations.api.bson_json import Json
from automations.api.openapi import describe
from automations.outbox.account_status import AccountSummary, summarize_accounts
from tracking.clock import format_time


class AccountListView(WorkspaceView):
    """The accounts that the workspace's automations are for, and those that it has added."""

    @describe("listAccounts")
    def get(self, request: Request, wsid: str) -> Response:
        """List them by id: whether they work, and what waits to be sent. Never a token."""
        accounts = [build_account(one) for one in summarize_accounts(wsid)]
        return Response({"success": True, "accounts": accounts})


def build_account(summary: AccountSummary) -> Json:
    """Return an account as the API shows it."""
    queue = summary.queue
    return {
        "accountId": summary.account_id,
        "state": summary.state,
        "stateReason": summary.state_reason,
        "stateAt": _format(summary.state_at),
        "sending": summary.sending,
        "lastWebhookAt": _format(summary.last_webhook_at),
        "queued": None if queue is None else queue.queued,
        "oldestAt": None if queue is None else _format(queue.oldest_at),
        "finishesAt": None if queue is None else _format(queue.finishes_at),
    }


def _format(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)

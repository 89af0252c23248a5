"""The HTTP API of accounts."""

from typing import Annotated, TypedDict

from rest_framework.request import Request
from rest_framework.response import Response

from automations.api.base import WorkspaceView
from automations.api.openapi import AccountId, Moment, Success, describe, eg
from automations.outbox.account_status import AccountSummary, summarize_accounts


class AccountAnswer(TypedDict):
    """An account, whether it works, and what waits. Never a token."""

    accountId: AccountId
    state: Annotated[
        str, eg("active", "active, token_dead, restricted, no_token or other_workspace.")
    ]
    stateReason: Annotated[str | None, eg(None)]
    stateAt: Moment | None
    sending: Annotated[str | None, eg("on", "on, shadow or off.")]
    lastWebhookAt: Moment | None
    queued: int | None
    oldestAt: Moment | None
    finishesAt: Moment | None


class AccountList(TypedDict):
    """The accounts of the workspace, by id."""

    success: Success
    accounts: list[AccountAnswer]


class AccountListView(WorkspaceView):
    @describe("listAccounts", AccountList)
    def get(self, request: Request, wsid: str) -> Response:
        """List the accounts, whether they work, and what waits to be sent."""
        accounts = [build_account(one) for one in summarize_accounts(wsid)]
        return Response(AccountList(success=True, accounts=accounts))


def build_account(summary: AccountSummary) -> AccountAnswer:
    queue = summary.queue
    return {
        "accountId": summary.account_id,
        "state": summary.state,
        "stateReason": summary.state_reason,
        "stateAt": summary.state_at,
        "sending": summary.sending,
        "lastWebhookAt": summary.last_webhook_at,
        "queued": None if queue is None else queue.queued,
        "oldestAt": None if queue is None else queue.oldest_at,
        "finishesAt": None if queue is None else queue.finishes_at,
    }

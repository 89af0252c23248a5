"""The HTTP API of accounts."""

from datetime import datetime
from typing import Annotated, TypedDict

import msgspec
from rest_framework.request import Request
from rest_framework.response import Response

from automations.api.base import WorkspaceView
from automations.api.openapi import AccountId, Moment, Success, describe, eg
from automations.outbox.account_status import summarize_accounts


class AccountAnswer(TypedDict):
    """An account, whether it works, and what waits. Never a token."""

    accountId: AccountId
    state: Annotated[
        str,
        eg("active", "active, token_dead, restricted, unreadable, no_token or other_workspace."),
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
        accounts = msgspec.to_builtins(summarize_accounts(wsid), builtin_types=(datetime,))
        return Response(AccountList(success=True, accounts=accounts))

"""The accounts of a workspace: their state, and what is queued for them."""

from __future__ import annotations

from datetime import datetime

import msgspec

from automations.accounts import accounts
from automations.accounts.accounts import Account, AccountState
from automations.conf import conf
from automations.outbox.modes import Mode, find_mode
from automations.outbox.queues import Queue, summarize_queues
from automations.rules import store

# States that an account can have besides those of AccountState.
NO_TOKEN = "no_token"  # noqa: S105 - the name of a state
OTHER_WORKSPACE = "other_workspace"
_SENDING = {Mode.SEND: "on", Mode.SHADOW: "shadow", Mode.HOLD: "off"}


class AccountSummary(msgspec.Struct, frozen=True, kw_only=True):
    """An account, as the API and the pages show it.

    `state` is an AccountState, NO_TOKEN or OTHER_WORKSPACE; the last has no other fields.
    `sending` is "on", "shadow" (everything except the call) or "off" (jobs stay queued until
    their window ends).
    """

    account_id: str
    state: str
    state_reason: str | None = None
    state_at: datetime | None = None
    sending: str | None = None
    last_webhook_at: datetime | None = None
    queue: Queue | None = None


def summarize_accounts(workspace_id: str) -> list[AccountSummary]:
    """Return the workspace's accounts and those that its automations name, by id.

    Raises TrackingUnavailable.
    """
    named = store.list_account_ids(workspace_id)
    found = {one.id: one for one in accounts.list_accounts(workspace_id, account_ids=named)}
    queues = summarize_queues(sorted(found.keys() | set(named)))
    return [_summarize(found.get(one), queue, workspace_id) for one, queue in queues.items()]


def _summarize(account: Account | None, queue: Queue, workspace_id: str) -> AccountSummary:
    if account is not None and account.workspace_id != workspace_id:
        return AccountSummary(account_id=account.id, state=OTHER_WORKSPACE)
    has_token = account is not None and account.has_token
    is_active = account is not None and account.state is AccountState.ACTIVE
    mode = find_mode(conf.sending, has_token=has_token, can_send=has_token and is_active)
    return AccountSummary(
        account_id=queue.account_id,
        state=account.state.value if account is not None and has_token else NO_TOKEN,
        state_reason=None if account is None else account.state_reason,
        state_at=None if account is None else account.state_at,
        sending=_SENDING[mode],
        last_webhook_at=None if account is None else account.last_webhook_at,
        queue=queue,
    )

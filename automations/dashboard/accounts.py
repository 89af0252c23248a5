"""The accounts of a workspace: whether they work, what waits, and when it will be done."""

from __future__ import annotations

import msgspec

from automations.accounts import Account, AccountState, list_accounts
from automations.dashboard.access import Reader
from automations.dashboard.words import describe_age

_PAUSED = (
    "Paused: its access token no longer works. Log in to Instagram again and store the new token "
    "with add_account; what waits is sent then."
)
_RESTRICTED = (
    "Paused: Instagram has restricted it. Look into the Instagram app for what it asks for."
)
_STATES = {
    AccountState.ACTIVE: ("ok", "Works"),
    AccountState.TOKEN_DEAD: ("bad", _PAUSED),
    AccountState.RESTRICTED: ("bad", _RESTRICTED),
}


class AccountLine(msgspec.Struct, frozen=True, kw_only=True):
    """An account in words; `tone` is ok, quiet or bad."""

    id: str
    tone: str
    state: str
    reason: str
    heard: str


def list_account_lines(reader: Reader) -> list[AccountLine]:
    """Return the workspace's accounts in words. Raises TrackingUnavailable."""
    return [_describe(account, reader) for account in list_accounts(reader.workspace_id)]


def _describe(account: Account, reader: Reader) -> AccountLine:
    tone, state = _STATES[account.state]
    if account.state is AccountState.ACTIVE and not account.has_token:
        tone, state = "quiet", "Without an access token: nothing is really sent."
    return AccountLine(
        id=account.id,
        tone=tone,
        state=state,
        reason=account.state_reason or "",
        heard=describe_age(account.last_webhook_at, at=reader.at, zone=reader.zone),
    )

"""Accounts that can send, their encrypted access tokens, and their state."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from automations.accounts import store
from automations.accounts.encryption import EncryptionKeyMissing, Undecryptable, decrypt, encrypt
from automations.instagram.access_tokens import AccessToken, Host
from tracking.exceptions import TrackingError

logger = logging.getLogger("automations.accounts")

_LAST_WEBHOOK_RESOLUTION = timedelta(minutes=1)  # one write a minute, not one per delivery
_MOST_NOTED = 100_000
# When this process last wrote it, by account. Two threads may both write: it is the same.
_noted_at: dict[str, datetime] = {}


class AccountState(StrEnum):
    """Whether an account can send."""

    ACTIVE = "active"
    TOKEN_DEAD = "token_dead"  # noqa: S105 - the name of a state
    RESTRICTED = "restricted"


class AccountTaken(Exception):
    """The account belongs to another workspace, which the message does not name."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """An account. `token` is None where it is not asked for.

    `last_webhook_at` is to the minute. Times are aware UTC.
    """

    id: str
    workspace_id: str
    host: Host
    state: AccountState
    state_reason: str | None
    state_at: datetime | None
    last_webhook_at: datetime | None
    created_at: datetime | None
    has_token: bool
    token: AccessToken | None = None


def get_account(account_id: str) -> Account | None:
    """Return the account with its token, None if there is none.

    A token that cannot be decrypted is as good as a dead one: the account's state says so, and
    nothing of it is sent until the key is back. Raises TrackingUnavailable.
    """
    document = store.find_account(account_id)
    if document is None:
        return None
    account = _parse_account(document)
    encrypted = document.get("token")
    if not encrypted:
        return account
    try:
        token = AccessToken(decrypt(encrypted), host=account.host)
    except (EncryptionKeyMissing, Undecryptable) as error:
        logger.error("❌ The token of account %s cannot be read. %s", account_id, error)
        return msgspec.structs.replace(
            account, state=AccountState.TOKEN_DEAD, state_reason=str(error)
        )
    return msgspec.structs.replace(account, token=token)


def list_accounts(
    workspace_id: str | None = None, *, account_ids: Collection[str] = ()
) -> list[Account]:
    """Return the accounts of a workspace, or all, without their tokens.

    Also those of `account_ids`, of any workspace. Raises TrackingUnavailable.
    """
    found = store.list_accounts(workspace_id, account_ids=account_ids)
    return [_parse_account(document) for document in found]


def add_account(
    account_id: str, *, workspace_id: str, token: str, at: datetime, host: Host = Host.INSTAGRAM
) -> None:
    """Store an account or a new token for it, and activate it.

    Raises ValueError for what can be no id or no token, EncryptionKeyMissing, AccountTaken, and
    TrackingUnavailable.
    """
    if not account_id or not workspace_id or "/" in account_id + workspace_id:
        raise ValueError("An id is not empty and holds no slash.")
    # It travels in a header.
    if not token or not token.isascii() or not all(character > " " for character in token):
        raise ValueError("An access token is ASCII text without spaces.")
    changes = {
        "token": encrypt(token),
        "host": host.value,
        "state": AccountState.ACTIVE.value,
        "stateReason": None,
        "stateAt": at,
    }
    if not store.upsert_account(
        account_id, workspace_id=workspace_id, changes=changes, created_at=at
    ):
        raise AccountTaken(f"Account {account_id} belongs to another workspace.")


def verify_free(account_id: str, *, workspace_id: str) -> None:
    """Check that an automation of the workspace may use the account.

    It may use one that no workspace has added. Raises AccountTaken and TrackingUnavailable.
    """
    document = store.find_account(account_id)
    if document is not None and str(document["workspaceId"]) != workspace_id:
        raise AccountTaken(f"Account {account_id} belongs to another workspace.")


def set_state(account_id: str, state: AccountState, reason: str | None, *, at: datetime) -> bool:
    """Set an account's state; log a new one and return True.

    `reason` is a sentence or a code, never a token. Raises TrackingUnavailable.
    """
    is_new = store.update_state(account_id, state=state.value, reason=reason, at=at)
    if is_new and state is not AccountState.ACTIVE:
        logger.error("❌ Account %s is paused: %s (%s)", account_id, state.value, reason)
    return is_new


def note_webhooks(account_ids: Collection[str], *, at: datetime) -> None:
    """Record that Meta sent something for these accounts. Never raises, never waits.

    An account is written once a minute by each process, in a thread; errors are ignored here.
    """
    oldest = at - _LAST_WEBHOOK_RESOLUTION
    due = [one for one in account_ids if _noted_at.get(one, oldest) <= oldest]
    if not due:
        return
    if len(_noted_at) > _MOST_NOTED:
        _noted_at.clear()
    _noted_at.update(dict.fromkeys(due, at))
    _notes.add(due, at)


class _Notes:
    """Last webhooks on their way into the database. The thread ends when nothing is left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, datetime] = {}
        self._thread: threading.Thread | None = None

    def add(self, account_ids: Collection[str], at: datetime) -> None:
        """Have them written at once."""
        with self._lock:
            self._waiting.update(dict.fromkeys(account_ids, at))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._write, name="accounts", daemon=True)
                self._thread.start()

    def wait(self) -> None:
        """Wait until all are written."""
        if (thread := self._thread) is not None:
            thread.join()

    def _write(self) -> None:
        while True:
            with self._lock:
                waiting, self._waiting = self._waiting, {}
                if not waiting:
                    self._thread = None
                    return
            with suppress(TrackingError):
                store.update_last_webhook(
                    list(waiting), at=max(waiting.values()), resolution=_LAST_WEBHOOK_RESOLUTION
                )


_notes = _Notes()


def finish_notes() -> None:
    """Wait until what was noted is written."""
    _notes.wait()


def _parse_account(document: Mapping[str, Any]) -> Account:
    return Account(
        id=document["_id"],
        workspace_id=document["workspaceId"],
        host=Host(document.get("host") or Host.INSTAGRAM),
        state=AccountState(document.get("state") or AccountState.ACTIVE),
        state_reason=document.get("stateReason"),
        state_at=document.get("stateAt"),
        last_webhook_at=document.get("lastWebhookAt"),
        created_at=document.get("createdAt"),
        has_token=bool(document.get("token")),
    )


class Rotation(msgspec.Struct, frozen=True):
    """How many tokens were encrypted again, and the accounts of unreadable ones."""

    rotated: int
    unreadable: tuple[str, ...]


def rotate_tokens() -> Rotation:
    """Encrypt every stored token with the first key.

    A token that another process replaces stays as that process stored it. Raises
    EncryptionKeyMissing and TrackingUnavailable.
    """
    rotated, unreadable = 0, []
    for account_id, encrypted in store.list_tokens():
        try:
            token = decrypt(encrypted)
        except Undecryptable:
            unreadable.append(account_id)
            continue
        rotated += store.replace_token(account_id, old=encrypted, new=encrypt(token))
    return Rotation(rotated, tuple(unreadable))

"""Accounts that can send, their encrypted access tokens, and their state.

Reads and writes raise TrackingUnavailable while the database is unavailable.
"""

import logging
import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec
from pymongo.collection import Collection as MongoCollection
from pymongo.errors import DuplicateKeyError

from automations.accounts.encryption import EncryptionKeyMissing, Undecryptable, decrypt, encrypt
from automations.auth.tokens import verify_workspace_id
from automations.instagram.access_tokens import AccessToken, Host
from tracking.exceptions import TrackingError
from tracking.ids import list_stored_forms, name_id, name_person
from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded, find_obstacle

logger = logging.getLogger("automations.accounts")

Document = dict[str, Any]

_LAST_WEBHOOK_RESOLUTION = timedelta(minutes=1)  # one write a minute, not one per delivery
_NOTE_SECONDS = 1.0
_MOST_NOTED = 100_000
# When this process last wrote it, by account. Two threads may both write: it is the same.
_noted_at: dict[str, datetime] = {}
_SHOWN: Document = {
    **dict.fromkeys(("workspaceId", "host", "state", "stateReason", "stateAt"), 1),
    **dict.fromkeys(("lastWebhookAt", "createdAt"), 1),
    "token": {"$gt": ["$token", None]},
}


class AccountState(StrEnum):
    ACTIVE = "active"
    TOKEN_DEAD = "token_dead"  # noqa: S105 - the name of a state
    RESTRICTED = "restricted"
    UNREADABLE = "unreadable"  # never stored: what the document holds is not known


class AccountTaken(Exception):
    """The account belongs to another workspace, which the message does not name."""

    def __init__(self, account_id: str) -> None:
        super().__init__(f"Account {account_id} belongs to another workspace.")


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
    nothing of it is sent until the key is back.
    """
    with bounded():
        document = _accounts().find_one({"_id": account_id})
    if document is None:
        return None
    account = _parse_account(document)
    encrypted = document.get("token")
    if not encrypted:
        return account
    try:
        token = AccessToken(decrypt(str(encrypted)), host=account.host)
    except (EncryptionKeyMissing, Undecryptable) as error:
        logger.error("❌ The token of account %s cannot be read. %s", account_id, error)
        return msgspec.structs.replace(
            account, state=AccountState.TOKEN_DEAD, state_reason=str(error)
        )
    return msgspec.structs.replace(account, token=token)


def list_accounts(
    workspace_id: str | None = None, *, account_ids: Collection[str] = ()
) -> list[Account]:
    """Return the accounts of a workspace, or all, by id, without their tokens.

    Also those of `account_ids`, of any workspace.
    """
    query: Document = {}
    if workspace_id is not None:
        named = {"workspaceId": {"$in": list_stored_forms(workspace_id)}}
        query = {"$or": [named, {"_id": {"$in": list(account_ids)}}]}
    with bounded():
        return [_parse_account(one) for one in _accounts().find(query, _SHOWN).sort("_id", 1)]


def list_other_workspaces(account_id: str, workspace_id: str) -> list[str]:
    """Return the other workspaces that have an active automation for the account."""
    named = {"accountId": {"$in": list_stored_forms(account_id)}}
    query = {**named, "isActive": True, "deletedAt": None}
    with bounded():
        found = mongo.get_database()["automations"].distinct("workspaceId", query)
    return sorted({str(one) for one in found} - {workspace_id})


def add_account(
    account_id: str, *, workspace_id: str, token: str, at: datetime, host: Host = Host.INSTAGRAM
) -> None:
    """Store an account or a new token for it, and activate it.

    Raises ValueError for what can be no id or no token, EncryptionKeyMissing, and AccountTaken.
    """
    if not account_id or "/" in account_id:
        raise ValueError("An id is not empty and holds no slash.")
    verify_workspace_id(workspace_id)
    # It travels in a header.
    if not token or not token.isascii() or not all(character > " " for character in token):
        raise ValueError("An access token is ASCII text without spaces.")
    changes = {
        "workspaceId": workspace_id,
        "token": encrypt(token),
        "host": host.value,
        "state": AccountState.ACTIVE.value,
        "stateReason": None,
        "stateAt": at,
    }
    with bounded():
        try:
            own = {"workspaceId": {"$in": [*list_stored_forms(workspace_id), None]}}
            update = {"$set": changes, "$setOnInsert": {"createdAt": at}}
            _accounts().update_one({"_id": account_id, **own}, update, upsert=True)
        except DuplicateKeyError as error:
            if find_obstacle(error):
                raise
            raise AccountTaken(account_id) from None


def delete_account(account_id: str) -> None:
    with bounded():
        _accounts().delete_one({"_id": account_id})


def set_state(account_id: str, state: AccountState, reason: str | None, *, at: datetime) -> bool:
    """Set an account's state; log a new one and return True.

    `reason` is a sentence or a code, never a token.
    """
    with bounded():
        result = _accounts().update_one(
            {"_id": account_id, "state": {"$ne": state.value}},
            {"$set": {"state": state.value, "stateReason": reason, "stateAt": at}},
        )
    is_new = result.modified_count == 1
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


def finish_notes() -> None:
    """Wait until what was noted is written."""
    if (thread := _notes.thread) is not None:
        thread.join()


class _Notes:
    """Last webhooks on their way into the database. The thread ends when nothing is left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, datetime] = {}
        self.thread: threading.Thread | None = None

    def add(self, account_ids: Collection[str], at: datetime) -> None:
        with self._lock:
            self._waiting.update(dict.fromkeys(account_ids, at))
            if self.thread is None or not self.thread.is_alive():
                self.thread = threading.Thread(target=self._write, name="accounts", daemon=True)
                self.thread.start()

    def _write(self) -> None:
        while True:
            with self._lock:
                waiting, self._waiting = self._waiting, {}
                if not waiting:
                    self.thread = None
                    return
            at = max(waiting.values())
            is_due = {"$not": {"$gt": at - _LAST_WEBHOOK_RESOLUTION}}
            with suppress(TrackingError), bounded(_NOTE_SECONDS):
                _accounts().update_many(
                    {"_id": {"$in": list(waiting)}, "lastWebhookAt": is_due},
                    {"$set": {"lastWebhookAt": at}},
                )


_notes = _Notes()


class Rotation(msgspec.Struct, frozen=True):
    """How many tokens were encrypted again, and the accounts of unreadable ones."""

    rotated: int
    unreadable: tuple[str, ...]


def rotate_tokens() -> Rotation:
    """Encrypt every stored token with the first key.

    A token that another process replaces stays as that process stored it. Raises
    EncryptionKeyMissing.
    """
    with bounded():
        found = _accounts().find({"token": {"$type": "string"}}, {"token": 1}).sort("_id", 1)
        encrypted = {one["_id"]: one["token"] for one in found}
    rotated, unreadable = 0, []
    for account_id, old in encrypted.items():
        try:
            new = encrypt(decrypt(old))
        except Undecryptable:
            unreadable.append(account_id)
            continue
        with bounded():
            result = _accounts().update_one(
                {"_id": account_id, "token": old}, {"$set": {"token": new}}
            )
        rotated += result.modified_count
    return Rotation(rotated, tuple(unreadable))


def _parse_account(document: Mapping[str, Any]) -> Account:
    """Return an account; one that cannot be read is paused, and costs itself only."""
    workspace_id = name_person(document.get("workspaceId")) or ""
    host = document.get("host") or Host.INSTAGRAM
    state = document.get("state") or AccountState.ACTIVE
    faults = {
        "its _id is no text": not isinstance(document["_id"], str),
        "it names no workspace": not workspace_id,
        "its host is unknown": host not in list(Host),
        "its state is unknown": state not in list(AccountState),
    }
    fault = next((one for one, has_it in faults.items() if has_it), None)
    times = {name: one for name, one in document.items() if isinstance(one, datetime)}
    return Account(
        id=name_id(document["_id"]),
        workspace_id=workspace_id,
        host=Host.INSTAGRAM if fault else Host(host),
        state=AccountState.UNREADABLE if fault else AccountState(state),
        state_reason=fault or document.get("stateReason"),
        state_at=times.get("stateAt"),
        last_webhook_at=times.get("lastWebhookAt"),
        created_at=times.get("createdAt"),
        has_token=bool(document.get("token")),
    )


def _accounts() -> MongoCollection[Document]:
    return mongo.get_database()["accounts"]

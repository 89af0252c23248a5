"""Access tokens under another key: readable all along, and at last without the key before."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.management import CommandError

from automations.accounts import accounts
from automations.accounts.accounts import add_account, get_account
from automations.accounts.encryption import encrypt, make_key
from tests.support.api_client import Db
from tests.support.commands import run_command

NOW = datetime(2026, 11, 23, 10, 30, tzinfo=UTC)


def rotate() -> list[str]:
    return run_command("rotate_encryption_keys")


def read_token(account_id: str) -> str | None:
    account = get_account(account_id)
    return None if account is None else account.token


@pytest.fixture
def keys(db: Db, settings: Any) -> tuple[str, str]:
    """An old and a new key; three accounts whose tokens are under the old one."""
    old, new = make_key(), make_key()
    settings.FIELD_ENCRYPTION_KEYS = (old,)
    for name in ("a", "b", "c"):
        add_account(name, workspace_id="ws", token=f"token-{name}", at=NOW)
    settings.FIELD_ENCRYPTION_KEYS = (new, old)
    return old, new


def test_afterwards_the_new_key_is_enough(keys: tuple[str, str], settings: Any) -> None:
    assert rotate() == [
        "tokens encrypted with the first key: 3",
        "The first key alone is enough now; the others can go.",
    ]
    settings.FIELD_ENCRYPTION_KEYS = keys[1:]
    assert [read_token(name) for name in ("a", "b", "c")] == ["token-a", "token-b", "token-c"]
    rotate()


def test_a_token_that_no_key_reads_is_named_and_stops_no_other(
    keys: tuple[str, str], settings: Any, db: Db
) -> None:
    db["accounts"].update_one({"_id": "b"}, {"$set": {"token": "damaged"}})
    db["accounts"].insert_one({"_id": "d", "workspaceId": "ws", "createdAt": NOW})
    with pytest.raises(CommandError, match=r"No key reads the tokens of b:"):
        rotate()
    settings.FIELD_ENCRYPTION_KEYS = keys[1:]
    assert [read_token(name) for name in ("a", "c", "d")] == ["token-a", "token-c", None]


def test_a_token_that_is_replaced_meanwhile_stays(
    keys: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def encrypt_late(text: str) -> str:
        if text == "token-b":
            add_account("b", workspace_id="ws", token="newer", at=NOW)
        return encrypt(text)

    monkeypatch.setattr(accounts, "encrypt", encrypt_late)
    assert accounts.rotate_tokens() == accounts.Rotation(2, ())
    assert read_token("b") == "newer"


def test_without_a_key_it_says_so(db: Db, settings: Any) -> None:
    settings.FIELD_ENCRYPTION_KEYS = ()
    db["accounts"].insert_one({"_id": "a", "workspaceId": "ws", "token": "x"})
    with pytest.raises(CommandError, match="FIELD_ENCRYPTION_KEYS should be set"):
        rotate()

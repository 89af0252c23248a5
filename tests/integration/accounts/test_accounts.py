"""Accounts: tokens encrypted at rest, their state, and the two commands."""

import io
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError

from automations.accounts import accounts
from automations.accounts.accounts import (
    Account,
    AccountState,
    AccountTaken,
    add_account,
    finish_notes,
    get_account,
    list_accounts,
    note_webhooks,
    set_state,
)
from automations.accounts.encryption import make_key
from automations.instagram.access_tokens import Host
from tests.support.commands import run_command as run
from tracking.exceptions import StorageRefused, TrackingUnavailable

NOW = datetime(2026, 11, 23, 10, 30, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
SECRET = "IGAA-very-secret"
NO_TOKENS = ("", "two words", "töken", "line\n", "tab\t")
ADD = ("add_account", "178", "--workspace", "ws")


@pytest.fixture(autouse=True)
def _key(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "_noted_at", {})
    settings.FIELD_ENCRYPTION_KEYS = (make_key(),)


def add(account_id: str = "178", *, workspace_id: str = "ws", token: str = SECRET) -> None:
    add_account(account_id, workspace_id=workspace_id, token=token, at=NOW)


def fetch(account_id: str = "178") -> Account:
    account = get_account(account_id)
    assert account is not None
    return account


class TestAccounts:
    def test_a_token_is_stored_encrypted_and_comes_back(self, db: Any) -> None:
        assert get_account("178") is None
        add_account("178", workspace_id="ws", token=SECRET, at=NOW, host=Host.FACEBOOK)
        assert SECRET not in str(db.accounts.find_one())
        account = fetch()
        assert (account.token, account.host) == (SECRET, Host.FACEBOOK)
        assert account.token is not None
        assert account.token.host is Host.FACEBOOK
        assert (account.workspace_id, account.state) == ("ws", AccountState.ACTIVE)
        assert account.created_at == NOW
        assert SECRET not in f"{account} {account!r}"

    def test_a_new_token_makes_it_active_again(self, db: Any) -> None:
        add()
        set_state("178", AccountState.TOKEN_DEAD, "error 190", at=LATER)
        add_account("178", workspace_id="ws", token="another", at=LATER + timedelta(hours=1))
        account = fetch()
        assert (account.token, account.state, account.state_reason) == ("another", "active", None)
        assert account.created_at == NOW

    def test_one_that_names_no_workspace_is_given_to_the_one_that_adds_it(self, db: Any) -> None:
        db.accounts.insert_many([{"_id": "178", "state": "active"}, {"_id": "2", "workspaceId": 7}])
        add()
        add("2", workspace_id="7")
        assert [one.workspace_id for one in list_accounts()] == ["ws", "7"]

    def test_an_index_that_is_not_ours_is_named(self, bare_db: Any) -> None:
        bare_db.accounts.create_index("state", unique=True)
        add()
        with pytest.raises(StorageRefused, match="a unique index that is not ours"):
            add("2")

    def test_another_workspace_cannot_take_it(self, db: Any) -> None:
        add()
        with pytest.raises(AccountTaken):
            add(workspace_id="thief", token="theirs")
        assert fetch().token == SECRET

    @pytest.mark.parametrize(
        ("account_id", "workspace_id", "token", "said"),
        [
            *(("178", "ws", token, "access token") for token in NO_TOKENS),
            ("", "ws", SECRET, "slash"),
            ("178", "", SECRET, "slash"),
            ("1/8", "ws", SECRET, "slash"),
            ("178", "w/s", SECRET, "slash"),
        ],
    )
    def test_what_no_header_or_path_can_hold_is_refused(
        self, db: Any, account_id: str, workspace_id: str, token: str, said: str
    ) -> None:
        with pytest.raises(ValueError, match=said):
            add(account_id, workspace_id=workspace_id, token=token)
        assert db.accounts.count_documents({}) == 0

    @pytest.mark.parametrize("keys", [(), (make_key(),)])
    def test_a_token_that_cannot_be_read_pauses_the_account(
        self, db: Any, settings: Any, caplog: pytest.LogCaptureFixture, keys: tuple[str, ...]
    ) -> None:
        add()
        settings.FIELD_ENCRYPTION_KEYS = keys
        account = fetch()
        assert (account.token, account.state) == (None, AccountState.TOKEN_DEAD)
        assert account.has_token
        assert "FIELD_ENCRYPTION_KEYS" in str(account.state_reason)
        assert "❌ The token of account 178 cannot be read." in caplog.text
        assert db.accounts.find_one()["state"] == "active"

    def test_an_older_document_has_the_defaults(self, db: Any) -> None:
        db.accounts.insert_one({"_id": "178", "workspaceId": "ws"})
        account = fetch()
        assert (account.host, account.state) == (Host.INSTAGRAM, AccountState.ACTIVE)
        assert (account.token, account.has_token) == (None, False)

    def test_accounts_are_listed_without_their_tokens(self, db: Any) -> None:
        add("2")
        add("1", workspace_id="other")
        db.accounts.insert_one({"_id": "3", "workspaceId": "ws"})
        assert [(one.id, one.token, one.has_token) for one in list_accounts()] == [
            ("1", None, True), ("2", None, True), ("3", None, False),
        ]  # fmt: skip
        assert [one.id for one in list_accounts("ws")] == ["2", "3"]


class TestState:
    def test_a_dead_token_is_told_once(self, db: Any, caplog: pytest.LogCaptureFixture) -> None:
        assert not set_state("178", AccountState.TOKEN_DEAD, "not there", at=LATER)
        assert db.accounts.count_documents({}) == 0
        add()
        assert set_state("178", AccountState.TOKEN_DEAD, "error 190", at=LATER)
        assert not set_state("178", AccountState.TOKEN_DEAD, "error 190", at=LATER)
        account = fetch()
        assert (account.state, account.state_reason) == ("token_dead", "error 190")
        assert account.state_at == LATER
        assert caplog.text.count("❌ Account 178 is paused: token_dead (error 190)") == 1

    def test_the_last_webhook_is_kept_to_the_minute(
        self, db: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add("1")
        add("2")
        note(["1", "unknown"], at=NOW)
        note(["1"], at=NOW + timedelta(seconds=59))
        assert [one.last_webhook_at for one in list_accounts()] == [NOW, None]
        note(["1", "2"], at=NOW + timedelta(seconds=60))
        assert {one.last_webhook_at for one in list_accounts()} == {NOW + timedelta(seconds=60)}
        # Another process does not know what this one wrote, and writes no more often for it.
        monkeypatch.setattr(accounts, "_noted_at", {})
        note(["1"], at=NOW + timedelta(seconds=61))
        assert {one.last_webhook_at for one in list_accounts()} == {NOW + timedelta(seconds=60)}
        note([], at=LATER)
        assert db.accounts.count_documents({}) == 2

    def test_a_database_that_is_away(self) -> None:
        for call in (fetch, add):
            with pytest.raises(TrackingUnavailable):
                call()
        started = time.monotonic()
        note_webhooks(["178"], at=NOW)
        assert time.monotonic() - started < 0.05
        finish_notes()


def note(account_ids: list[str], *, at: datetime) -> None:
    note_webhooks(account_ids, at=at)
    finish_notes()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestCommands:
    def test_a_token_from_a_file(self, db: Any, tmp_path: Path) -> None:
        path = tmp_path / "token"
        path.write_text(f"{SECRET}\n")
        said = run(*ADD, "--host", "facebook", "--token-file", str(path))
        assert said == ["Account 178 of workspace ws is active; its token is stored encrypted."]
        assert (fetch().token, fetch().host) == (SECRET, Host.FACEBOOK)

    @pytest.mark.parametrize("stdin", [io.StringIO(f"{SECRET}\n"), Terminal()])
    def test_a_token_from_stdin_or_asked_for_at_a_terminal(
        self, db: Any, monkeypatch: pytest.MonkeyPatch, stdin: io.StringIO
    ) -> None:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr("getpass.getpass", lambda prompt: SECRET)
        run(*ADD)
        assert (fetch().token, fetch().host) == (SECRET, Host.INSTAGRAM)

    def test_automations_of_others_that_it_silences_are_named(
        self, db: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for workspace_id, is_active in (("ws", True), ("other", True), ("third", False)):
            db.automations.insert_one(
                {"accountId": "178", "workspaceId": workspace_id, "isActive": is_active}
            )
        monkeypatch.setattr(sys, "stdin", io.StringIO(SECRET))
        run(*ADD)
        assert "other workspaces (other) name this account" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--token", SECRET], "a token is no argument"),
            (["--token-file", "/nowhere/no"], "--token-file cannot be read: FileNotFoundError"),
            ([], r"Nothing was stored\. FIELD_ENCRYPTION_KEYS"),
        ],
    )
    def test_what_cannot_be_stored_is_said(
        self, db: Any, settings: Any, monkeypatch: pytest.MonkeyPatch, arguments: Any, said: str
    ) -> None:
        settings.FIELD_ENCRYPTION_KEYS = ()
        monkeypatch.setattr(sys, "stdin", io.StringIO(SECRET))
        with pytest.raises(CommandError, match=said) as caught:
            run(*ADD, *arguments)
        assert SECRET not in str(caught.value)
        assert db.accounts.count_documents({}) == 0

    def test_accounts_are_listed_with_their_state(self, db: Any) -> None:
        assert run("list_accounts")[0].startswith("There is no account;")
        add("1")
        add("2", workspace_id="other")
        note(["1"], at=NOW)
        set_state("2", AccountState.TOKEN_DEAD, "error 190", at=LATER)
        lines = [line.split() for line in run("list_accounts")]
        assert lines[1:] == [
            ["1", "ws", "graph.instagram.com", "stored", "2026-11-23T10:30:00.000Z",
             "2026-11-23T10:30:00.000Z", "active"],
            ["2", "other", "graph.instagram.com", "stored", "never",
             "2026-11-23T11:30:00.000Z", "token_dead:", "error", "190"],
        ]  # fmt: skip
        assert len(run("list_accounts", "--workspace", "ws")) == 2
        assert SECRET not in str(run("list_accounts"))

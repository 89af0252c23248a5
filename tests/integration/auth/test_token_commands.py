"""create_api_token, list_api_tokens and revoke_api_token."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError

from automations.auth import tokens
from tests.support.api_client import Db
from tests.support.commands import run_command as run
from tracking.mongo import errors as mongo_errors


def test_the_token_stands_alone_on_the_last_line(db: Db) -> None:
    run("create_api_token", "--workspace", "ws1")
    options = "--workspace ws1 --name CI --days 7 --scope read"
    lines = run("create_api_token", *options.split())
    now = datetime.now(UTC)
    token = tokens.find_token(lines[-1], at=now)
    assert token is not None
    assert (token.workspace_id, token.name) == ("ws1", "CI")
    assert [one.scope for one in tokens.list_tokens()] == ["write", "read"]
    assert token.expires_at is not None
    assert timedelta(days=6, hours=23) < token.expires_at - now <= timedelta(days=7)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--workspace", "ws1", "--days", "0"),
        ("--workspace", "ws1", "--days", "99999"),
        ("--workspace", "ws1", "--scope", "all"),
        *(("--workspace", name) for name in ("", "a/b", "..", "a\\b", " a", "a\n", "a" * 201)),
    ],
)
def test_what_cannot_be_made_is_refused_in_a_sentence(db: Db, arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        run("create_api_token", *arguments)
    assert tokens.list_tokens() == []


def test_the_list_shows_states_and_no_secret(db: Db) -> None:
    assert "create_api_token" in run("list_api_tokens")[0]
    at = datetime.now(UTC)
    secrets = [
        tokens.create_token(workspace_id="ws1", name="first", at=at)[0],
        tokens.create_token(workspace_id="ws1", at=at, expires_at=at - timedelta(days=1))[0],
        tokens.create_token(workspace_id="ws2", at=at)[0],
    ]
    tokens.revoke_token(secrets[2], at=at)
    header, *rows = run("list_api_tokens")
    assert " ".join(header.split()) == "ID WORKSPACE NAME SCOPE CREATED EXPIRES LAST USED STATE"
    assert [row.split()[-1] for row in rows] == ["usable", "expired", "revoked"]
    assert not any(secret in row for secret in secrets for row in rows)
    assert len(run("list_api_tokens", "--workspace", "ws2")) == 2


def test_a_token_is_revoked_by_its_id_or_itself(db: Db) -> None:
    for by_id in (True, False):
        secret, token = tokens.create_token(workspace_id="ws1", at=datetime.now(UTC))
        [line] = run("revoke_api_token", token.id if by_id else secret)
        assert token.id in line
        assert secret not in line
        assert tokens.find_token(secret, at=datetime.now(UTC)) is None
    with pytest.raises(CommandError, match="list_api_tokens"):
        run("revoke_api_token", "65f000000000000000000001")


def test_without_mongodb_they_fail_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongo_errors, "DEADLINE_SECONDS", 0.1)
    for command in ("create_api_token --workspace ws1", "list_api_tokens", "revoke_api_token aaa"):
        with pytest.raises(CommandError, match="MongoDB"):
            run(*command.split())

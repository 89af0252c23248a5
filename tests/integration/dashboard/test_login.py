"""The login page: a token becomes a session, guarded against forgery and fixation."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from automations.auth.tokens import create_token, revoke_token
from tests.support.api_client import Db
from tracking.mongo import errors as mongo_errors

HOME = "/workspaces/ws1/"


def make_secret(**options: Any) -> str:
    secret, _ = create_token(workspace_id="ws1", at=datetime.now(UTC), **options)
    return secret


def log_in(client: Client, secret: str, next_: str = "") -> HttpResponse:
    response: HttpResponse = client.post("/login", {"token": secret, "next": next_})
    return response


def test_the_page_asks_for_a_token(db: Db) -> None:
    response = Client().get("/login", {"next": "/api/workspaces/ws1/automations"})
    assert response.status_code == 200
    assert 'type="password"' in response.text
    assert 'value="/api/workspaces/ws1/automations"' in response.text
    assert "csrfmiddlewaretoken" in response.text
    assert "no-store" in response["Cache-Control"]


def test_a_valid_token_opens_a_session(db: Db) -> None:
    client, secret = Client(), make_secret()
    response = log_in(client, f"  {secret}\n")
    assert (response.status_code, response["Location"]) == (302, HOME)
    cookie = client.cookies["sessionid"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert client.get(HOME).status_code == 200
    assert client.get("/workspaces/ws2/").status_code == 404
    assert "logged in" in client.get("/login").text


@pytest.mark.parametrize("secret", ["", "art_x", "\0", "x" * 5000])
def test_a_wrong_token_opens_nothing(db: Db, secret: str) -> None:
    client = Client()
    response = log_in(client, secret)
    assert response.status_code == 401
    assert "unknown, expired or revoked" in response.text
    assert "sessionid" not in client.cookies
    assert db["web_sessions"].count_documents({}) == 0


def test_a_session_ends_when_its_token_does(db: Db) -> None:
    client, secret = Client(), make_secret()
    log_in(client, secret)
    revoke_token(secret, at=datetime.now(UTC))
    assert client.get(HOME)["Location"].startswith("/login")


def test_a_session_lasts_no_longer_than_its_token(db: Db) -> None:
    expires_at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    log_in(Client(), make_secret(expires_at=expires_at))
    [stored] = db["web_sessions"].find()
    assert stored["expiresAt"] == expires_at


def test_a_login_changes_the_keys(db: Db) -> None:
    client, secret = Client(), make_secret()
    client.get("/login")
    csrf_before = client.cookies["csrftoken"].value
    log_in(client, secret)
    first = client.cookies["sessionid"].value
    assert client.cookies["csrftoken"].value != csrf_before
    log_in(client, secret)
    assert client.cookies["sessionid"].value != first
    assert db["web_sessions"].count_documents({}) == 1


def test_logging_out_ends_the_session_on_the_server(db: Db) -> None:
    client = Client()
    log_in(client, make_secret())
    stolen = client.cookies["sessionid"].value
    assert client.get("/logout").status_code == 405  # a link cannot log out
    assert client.get(HOME).status_code == 200
    response = client.post("/logout")
    assert (response.status_code, response["Location"]) == (302, "/login")
    assert db["web_sessions"].count_documents({}) == 0
    thief = Client()
    thief.cookies["sessionid"] = stolen
    assert thief.get(HOME)["Location"].startswith("/login")


def test_forms_of_other_sites_are_refused(db: Db) -> None:
    client = Client(enforce_csrf_checks=True)
    assert log_in(client, make_secret()).status_code == 403
    assert client.post("/logout").status_code == 403


@pytest.mark.parametrize(
    "target", ["/api/workspaces/ws1/automations/x?format=json", "/workspaces/ws1/", "/"]
)
def test_next_leads_to_own_paths(db: Db, target: str) -> None:
    assert log_in(Client(), make_secret(), target)["Location"] == target


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example/", "///evil.example", "/\\evil.example", "\\\\evil",
     "http:evil.example", "javascript:alert(1)", "evil", "/\t/evil.example", " //evil.example",
     "http://testserver/", "\x01//evil.example"],
)  # fmt: skip
def test_next_leads_nowhere_else(db: Db, target: str) -> None:
    assert log_in(Client(), make_secret(), target)["Location"] == HOME
    assert f'value="{target}"' not in Client().get("/login", {"next": target}).text
    page = Client().get("/login", {"next": '/"><script>alert(1)</script>'}).text
    assert "<script>" not in page


def test_without_mongodb_it_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongo_errors, "DEADLINE_SECONDS", 0.1)
    client = Client()
    response = log_in(client, "art_x")
    assert (response.status_code, response["Retry-After"]) == (503, "1")
    client.cookies["sessionid"] = "a" * 32
    assert client.get("/login").status_code == 503
    assert client.post("/logout").status_code == 503

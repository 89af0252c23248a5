"""DRF's browsable API, as a browser uses it: session cookie, CSRF, HTML form and raw data."""

import html
import json
import re
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from tests.support.api_client import Db, build_automation, build_path, log_in, make_client


@pytest.fixture
def visitor(db: Db) -> Client:
    """A browser that went through the login page."""
    client = log_in(headers={"accept": "text/html"})
    client.handler.enforce_csrf_checks = True
    return client


def read_csrf(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found
    return found[1]


def read_raw_form(page: str) -> Any:
    contents = re.findall(r'<textarea name="_content"[^>]*>(.*?)</textarea>', page, re.DOTALL)
    return json.loads(html.unescape(contents[-1]))


def send_raw(visitor: Client, method: str, path: str, content: Any) -> HttpResponse:
    """Send what the raw data form of the page holds, as its script does."""
    token = read_csrf(visitor.get(path).text)
    response: HttpResponse = getattr(visitor, method)(
        path, content, content_type="application/json", headers={"X-CSRFToken": token}
    )
    return response


def test_the_list_opens_in_a_browser(db: Db, visitor: Client) -> None:
    db["automations"].insert_one(build_automation(name="<b>bold</b>"))
    response = visitor.get(build_path())
    assert response.status_code == 200
    assert response["Content-Type"] == "text/html; charset=utf-8"
    assert "last24Hours" in response.text
    assert "<b>bold</b>" not in response.text
    assert "API token (ws1)" in response.text
    assert 'action="/logout"' in response.text


def test_without_a_session_it_shows_the_way_to_the_login(db: Db) -> None:
    response = Client(headers={"accept": "text/html"}).get(build_path() + "?a=1&b=2")
    assert response.status_code == 401
    way = "/login?next=%2Fapi%2Fworkspaces%2Fws1%2Fautomations%3Fa%3D1%26b%3D2"
    assert f'href="{way}"' in response.text


def test_a_refused_form_comes_back_as_it_was_filled(db: Db, visitor: Client) -> None:
    page = visitor.get(build_path()).text
    form = {
        "csrfmiddlewaretoken": read_csrf(page), "name": "My link", "type": "story_reply",
        "accountId": "", "trigger.keywords": "LINK\r\ninfo", "mainDm.text": "Here",
        "mainDm.links": "Shop | ftp://example.com/",
    }  # fmt: skip
    response = visitor.post(build_path(), form)
    assert response.status_code == 400
    assert 'value="My link"' in response.text
    assert ">\nLINK\r\ninfo</textarea>" in response.text
    assert ">\nShop | ftp://example.com/</textarea>" in response.text
    assert "This field may not be blank." in response.text


def test_its_raw_data_form_changes_what_is_shown(db: Db, visitor: Client) -> None:
    automation = build_automation()
    db["automations"].insert_one(automation)
    path = build_path(automation["_id"])
    content = read_raw_form(visitor.get(path).text)
    assert content == {
        "name": "Link", "type": "comment_to_dm", "accountId": "178414", "isActive": True,
        "trigger": {"match": "any"}, "mainDm": {"text": "Here"},
    }  # fmt: skip
    assert send_raw(visitor, "patch", path, content | {"name": "Renamed"}).status_code == 200
    assert db["automations"].count_documents({"name": "Renamed"}) == 1


def test_an_older_products_document_has_a_page_too(db: Db, visitor: Client) -> None:
    old = {"_id": "old", "trigger": [1], "name": 7, "mainDm": "x", "type": "p"}
    db["automations"].insert_one({"workspaceId": "ws1", **old})
    assert visitor.get(build_path("old")).status_code == 200
    assert visitor.get(build_path("old", "stats")).status_code == 200


@pytest.mark.parametrize("method", ["post", "patch", "delete"])
def test_a_session_without_the_csrf_token_changes_nothing(
    db: Db, visitor: Client, method: str
) -> None:
    automation = build_automation()
    db["automations"].insert_one(automation)
    path = build_path() if method == "post" else build_path(automation["_id"])
    response = getattr(visitor, method)(
        path, "{}", content_type="application/json", headers={"accept": "application/json"}
    )
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "permission_denied"
    assert list(db["automations"].find()) == [automation]


def test_a_bearer_token_needs_no_csrf_token(db: Db) -> None:
    client = make_client()
    client.handler.enforce_csrf_checks = True
    assert client.delete(build_path("x")).status_code == 404

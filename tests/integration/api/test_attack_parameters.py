"""Hostile parameters on every path that exists: nothing of another workspace, and no 5xx."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from pymongo.database import Database

from automations.auth.tokens import create_token
from tests.support.api_client import build_automation, build_run, make_client

Db = Database[dict[str, Any]]

# A word in every document of the other workspace.
NEEDLE = "needle-of-another-workspace"
METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
REFUSED = {302, 400, 401, 403, 404, 405, 406, 415}
HOSTILE = ('{"$gt": ""}', "[$ne]", "$where", ".*", "a\0b", "../ws2", "ws1\n", "WS1", "\ud83d\ude00",
           "%00", "9" * 400)  # fmt: skip
# What a parameter of ours may be called, now or later, in the ways that parsers make objects of.
NAMES = ("workspaceId", "limit", "cursor", "from", "userId", "outcome", "unit")
QUERIES = tuple(
    f"{quote(form.format(name))}={quote(value)}"
    for name in NAMES
    for form, value in (
        ("{}", '{"$gt": ""}'), ("{}[$ne]", "1"), ("{}", "a\0b"), ("{}", "9" * 40),
    )
)  # fmt: skip


def list_routes() -> Iterator[str]:
    """Every path of the site that is of one workspace, as its pattern."""

    def walk(resolver: URLResolver, prefix: str) -> Iterator[str]:
        for entry in resolver.url_patterns:
            route = prefix + str(entry.pattern)
            if isinstance(entry, URLPattern):
                yield route
            else:
                yield from walk(entry, route)

    return (route for route in walk(get_resolver(), "") if "wsid" in route)


ROUTES = sorted(set(list_routes()))


def build_url(route: str, *, wsid: str, automation_id: str = "theirs", other: str = "x") -> str:
    """The path of a route, its parameters filled in."""
    values = {"wsid": wsid, "automation_id": automation_id}
    return "/" + re.sub(
        r"<(?:\w+:)?(\w+)>",
        lambda found: quote(values.get(found[1], other), safe="", errors="surrogatepass"),
        route,
    )


def read_body(response: HttpResponse) -> bytes:
    if response.streaming:
        return b"".join(response.streaming_content)  # type: ignore[attr-defined]
    return response.content


@pytest.fixture
def theirs(db: Db) -> dict[str, Any]:
    """An automation of another workspace, with a run, and everything named by the needle."""
    automation = build_automation(_id="theirs", workspaceId="ws2", name=NEEDLE)
    db["automations"].insert_one(automation)
    db["automations"].insert_one(build_automation(_id="ours"))
    run = build_run("theirs", age=timedelta(minutes=5), user_id=NEEDLE)
    db["automation_runs"].insert_one({**run, "workspaceId": "ws2"})
    return automation


def make_browser() -> Client:
    """A browser that is logged in to ws1."""
    secret, _ = create_token(workspace_id="ws1", at=datetime.now(UTC))
    client = Client()
    assert client.post("/login", {"token": secret}).status_code == 302
    return client


def test_there_are_routes_to_attack() -> None:
    assert {"api/workspaces/<str:wsid>/automations"} <= set(ROUTES)
    assert len(ROUTES) >= 4


@pytest.mark.parametrize("make", [make_client, make_browser])
@pytest.mark.parametrize("wsid", ["ws1", "ws2"])
def test_another_workspaces_automation_is_not_to_be_had(
    db: Db, theirs: dict[str, Any], make: Any, wsid: str
) -> None:
    client = make()
    for route in ROUTES:
        is_own_list = wsid == "ws1" and "automation_id" not in route
        for method in METHODS:
            if is_own_list and method not in ("get", "head", "options"):
                continue
            response = getattr(client, method)(build_url(route, wsid=wsid))
            assert NEEDLE.encode() not in read_body(response), (method, route)
            if not is_own_list and not (wsid == "ws1" and method == "options"):
                assert response.status_code in REFUSED, (method, route)
    assert db["automations"].find_one({"_id": "theirs"}) == theirs


def test_a_hostile_path_finds_nothing(db: Db, theirs: dict[str, Any]) -> None:
    client = make_client()
    for route in ROUTES:
        has_automation = "automation_id" in route
        for value in HOSTILE:
            urls = [build_url(route, wsid=value)]
            if has_automation:
                urls.append(build_url(route, wsid="ws1", automation_id=value))
            if route.count("<") > 1 + has_automation:
                urls.append(build_url(route, wsid="ws1", automation_id="ours", other=value))
            for url in urls:
                response = client.get(url)
                assert response.status_code in REFUSED, (url, response.status_code)
                assert NEEDLE.encode() not in read_body(response), url


def test_no_query_widens_an_answer(db: Db, theirs: dict[str, Any]) -> None:
    for route in ROUTES:
        client = make_client()  # a share of requests each
        url = build_url(route, wsid="ws1", automation_id="ours")
        for query in QUERIES:
            response = client.get(f"{url}?{query}")
            assert response.status_code in {200, *REFUSED}, (url, query)
            body = read_body(response)
            assert NEEDLE.encode() not in body, (url, query)
            assert b'"theirs"' not in body, (url, query)


OPERATORS: tuple[Any, ...] = (
    {"$gt": ""}, {"$set": {"workspaceId": "ws2"}}, ["$ne"], {"a.b": 1}, {"$where": "sleep(1000)"},
)  # fmt: skip
FIELDS = ("name", "type", "accountId", "trigger", "mainDm", "isActive", "commentReply", "openingDm",
          "askFollow", "$set", "workspaceId", "_id", "a.b", "__proto__", "", "\0")  # fmt: skip


@pytest.mark.parametrize("operator", OPERATORS, ids=json.dumps)
def test_no_body_carries_an_operator_into_the_database(
    db: Db, theirs: dict[str, Any], operator: Any
) -> None:
    before = list(db["automations"].find())
    client = make_client()
    good = {"name": "n", "type": "comment_to_dm", "accountId": "1", "trigger": {"match": "any"},
            "mainDm": {"text": "t"}}  # fmt: skip
    bodies: list[Any] = [{**good, field: operator} for field in FIELDS]
    bodies += [{**good, "trigger": {"match": operator}}, {**good, "mainDm": {"text": operator}},
               {**good, "trigger": {"keywords": [operator]}}, operator]  # fmt: skip
    paths = {"post": "/api/workspaces/ws1/automations",
             "patch": "/api/workspaces/ws1/automations/ours"}  # fmt: skip
    for body in bodies:
        for method, path in paths.items():
            send = getattr(client, method)
            answer = send(path, json.dumps(body), content_type="application/json")
            assert 400 <= answer.status_code < 500, body
    assert list(db["automations"].find()) == before


@pytest.mark.parametrize(
    "secret", ['{"$ne": null}', "[$ne]", "$ne", "", "\0", "art_" + "a" * 4000, "' || '1'=='1"]
)
def test_no_token_is_guessed_by_an_operator(db: Db, secret: str) -> None:
    make_client()  # one that an operator would find
    bearer = Client(headers={"authorization": f"Bearer {secret}"})
    assert bearer.get("/api/workspaces/ws1/automations").status_code == 401
    for form in ({"token": secret}, {"token[$ne]": secret}, {"token[]": [secret, secret]}):
        assert Client().post("/login", form).status_code == 401
    browser = Client()
    browser.cookies["sessionid"] = quote(secret)
    assert browser.get("/api/workspaces/ws1/automations").status_code == 401


@pytest.mark.parametrize(
    "query",
    [
        "hub.mode=subscribe&hub.verify_token[$ne]=x&hub.challenge=1",
        'hub.mode=subscribe&hub.verify_token={"$gt":""}&hub.challenge=1',
        "hub.mode=subscribe&hub.verify_token=test-verify-token&hub.verify_token=x&hub.challenge=1",
        "hub.mode[]=subscribe&hub.verify_token=test-verify-token&hub.challenge=1",
    ],
)
def test_the_verification_takes_one_plain_token(db: Db, query: str) -> None:
    assert Client().get(f"/api/webhooks/instagram?{query}").status_code == 403

"""Hostile parameters on every path that exists: nothing of another workspace, and no 5xx."""

import json
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client

from tests.support.api_client import Db, build_automation, build_run, make_client
from tests.support.routes import OWNED, fill_in

# A word in every document of the other workspace.
NEEDLE = "needle-of-another-workspace"
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


@pytest.fixture(autouse=True)
def _theirs(db: Db) -> None:
    """An automation of another workspace, with a run, and everything named by the needle."""
    ours = build_automation(_id="ours")
    theirs = build_automation(_id="theirs", workspaceId="ws2", name=NEEDLE)
    db["automations"].insert_many([ours, theirs])
    run = build_run("theirs", age=timedelta(minutes=5), user_id=NEEDLE)
    db["automation_runs"].insert_one({**run, "workspaceId": "ws2"})


def test_a_hostile_path_finds_nothing() -> None:
    client = make_client()
    for route in OWNED:
        for value in HOSTILE:
            urls = {
                fill_in(route, value),
                fill_in(route, "ws1", automation_id=value),
                fill_in(route, "ws1", automation_id="ours", run_id=value),
            }
            # A path without such a parameter is the own one.
            for url in urls - {fill_in(route, "ws1", automation_id="ours")}:
                response = client.get(url)
                assert response.status_code in REFUSED, (url, response.status_code)
                assert NEEDLE.encode() not in response.getvalue(), url


def test_no_query_widens_an_answer() -> None:
    for route in OWNED:
        client = make_client()  # a share of requests each
        url = fill_in(route, "ws1", automation_id="ours")
        for query in QUERIES:
            response = client.get(f"{url}?{query}")
            assert response.status_code in {200, *REFUSED}, (url, query)
            body = response.getvalue()
            assert NEEDLE.encode() not in body, (url, query)
            assert b'"theirs"' not in body, (url, query)


OPERATORS: tuple[Any, ...] = (
    {"$gt": ""}, {"$set": {"workspaceId": "ws2"}}, ["$ne"], {"a.b": 1}, {"$where": "sleep(1000)"},
)  # fmt: skip
FIELDS = ("name", "type", "accountId", "trigger", "mainDm", "isActive", "commentReply", "openingDm",
          "askFollow", "$set", "workspaceId", "_id", "a.b", "__proto__", "", "\0")  # fmt: skip


@pytest.mark.parametrize("operator", OPERATORS, ids=json.dumps)
def test_no_body_carries_an_operator_into_the_database(db: Db, operator: Any) -> None:
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

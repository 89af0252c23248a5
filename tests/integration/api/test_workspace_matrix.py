"""Every page and call there is, asked with another workspace's token: as if nothing were there.

Made from the URLs themselves: a new one is in it, or has to be named as open to everybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from pymongo.database import Database

from automations.auth.throttling import Limiter, TokenThrottle
from tests.support.api_client import build_automation, build_run, make_client

Db = Database[dict[str, Any]]

# What names nothing of a workspace, and why everybody may ask.
OPEN = {
    "healthz": "whether the process answers",
    "readyz": "whether it should be sent traffic",
    "metrics": "a token of its own, or this machine",
    "api/webhooks/instagram": "signed by Meta",
    "api/webhooks/instagram/data-deletion": "signed by Meta",
    "api/webhooks/instagram/data-deletion/<str:code>": "a code that only the asker has",
    "api/schema": "the same for everybody",
    "api/docs": "the same for everybody",
    "^api/": "404 for everybody",
    "": "sends to the login or to the own workspace",
    "favicon.ico": "a picture",
    "login": "the way in",
    "logout": "ends the own session",
}
# What the paths are filled in with: each is there, in the other workspace.
THERE = {"automation_id": "a1", "run_id": "r1"}
METHODS = ("get", "head", "options", "post", "put", "patch", "delete")


def list_routes(patterns: Any, prefix: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from list_routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route


ROUTES = sorted(set(list_routes(get_resolver().url_patterns)))
OWNED = [route for route in ROUTES if "<str:wsid>" in route]


def fill_in(route: str, workspace_id: str) -> str:
    values = {"wsid": workspace_id, **THERE}
    return "/" + re.sub(r"<str:(\w+)>", lambda found: values[found[1]], route)


@pytest.fixture
def _two_workspaces(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TokenThrottle, "limiter", Limiter())
    db["automations"].insert_one(build_automation(_id="a1", workspaceId="theirs"))
    db["automation_runs"].insert_one(
        {**build_run("a1", age=timedelta(hours=1)), "_id": "r1", "workspaceId": "theirs"}
    )


def log_in(workspace_id: str) -> Client:
    """A browser's session in the place of a token in each request."""
    secret = make_client(workspace_id).defaults["HTTP_AUTHORIZATION"].removeprefix("Bearer ")
    client = Client()
    assert client.post("/login", {"token": secret}).status_code == 302
    return client


def test_every_url_is_of_a_workspace_or_named_as_open() -> None:
    assert {route for route in ROUTES if route not in OWNED} == OPEN.keys()
    assert len(OWNED) >= 19


@pytest.mark.usefixtures("_two_workspaces")
@pytest.mark.parametrize("route", OWNED)
def test_another_workspace_is_not_there(db: Db, route: str) -> None:
    stored = {name: list(db[name].find()) for name in ("automations", "automation_runs")}
    # Pages look at the session alone: a token in a header opens none.
    clients = [log_in("ours")] + [make_client("ours")] * route.startswith("api/")
    for client in clients:
        statuses = set()
        for method in METHODS:
            answers = [
                getattr(client, method)(fill_in(route, workspace_id))
                for workspace_id in ("theirs", "nowhere")
            ]
            theirs, nowhere = ((one.status_code, one.content) for one in answers)
            assert theirs[0] in (404, 405), (method, theirs)
            # Not a word by which to tell a workspace that is there from one that is not.
            assert theirs[0] == nowhere[0]
            assert theirs[1].replace(b"theirs", b"nowhere") == nowhere[1]
            statuses.add(theirs[0])
        assert 404 in statuses
    assert {name: list(db[name].find()) for name in stored} == stored


@pytest.mark.usefixtures("_two_workspaces")
@pytest.mark.parametrize("route", OWNED)
def test_the_own_workspace_is_there(route: str) -> None:
    """So that the 404 of others says something."""
    client = log_in("theirs")
    path = fill_in(route, "theirs")
    answers = [client.get(path), client.post(path)]
    assert min(answer.status_code for answer in answers) < 404, answers


@pytest.mark.usefixtures("_two_workspaces")
@pytest.mark.parametrize("route", OWNED)
def test_nobody_is_asked_to_log_in(route: str) -> None:
    answer = Client().get(fill_in(route, "theirs"))
    assert answer.status_code in (302, 401, 405)
    if answer.status_code == 302:
        assert answer["Location"].startswith("/login")

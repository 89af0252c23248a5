"""Every page and call there is, asked with another workspace's token: as if nothing were there.

Made from the URLs themselves: a new one is in it, or has to be named as open to everybody.
"""

from datetime import timedelta

import pytest
from django.test import Client
from rest_framework.throttling import UserRateThrottle

from tests.support.api_client import Db, build_automation, build_run, log_in, make_client
from tests.support.routes import OWNED, ROUTES, fill_in

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
METHODS = ("get", "head", "options", "post", "put", "patch", "delete")


@pytest.fixture
def _two_workspaces(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UserRateThrottle, "THROTTLE_RATES", {"user": None})
    db["automations"].insert_one(build_automation(_id="a1", workspaceId="theirs"))
    db["automation_runs"].insert_one(
        {**build_run("a1", age=timedelta(hours=1)), "_id": "r1", "workspaceId": "theirs"}
    )


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
@pytest.mark.parametrize("route", [one for one in OWNED if one.count("<") > 1])
def test_ids_of_another_workspace_are_not_in_the_own_one(db: Db, route: str) -> None:
    stored = list(db["automations"].find())
    paths = [fill_in(route, "ours"), fill_in(route, "ours", automation_id="a9", run_id="r9")]
    browser = log_in("ours")
    for path in paths:
        statuses = {browser.get(path).status_code, browser.post(path).status_code}
        assert 404 in statuses <= {404, 405}
    for client in (browser, make_client("ours")):
        for method in METHODS:
            theirs, unknown = (getattr(client, method)(path) for path in paths)
            assert theirs.status_code == unknown.status_code
            assert b"Link" not in getattr(theirs, "content", b"")  # the automation's name
    assert list(db["automations"].find()) == stored


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


@pytest.mark.usefixtures("_two_workspaces")
@pytest.mark.parametrize("route", OWNED)
def test_a_token_that_may_only_read_changes_nothing(db: Db, route: str) -> None:
    stored = list(db["automations"].find())
    clients = [log_in("theirs", scope="read")]
    clients += [make_client("theirs", scope="read")] * route.startswith("api/")
    path = fill_in(route, "theirs")
    # The zone of the pages is the session's own.
    refused = 302 if route.endswith("/zone") else 403
    for client in clients:
        for method in ("post", "put", "patch", "delete"):
            answer = getattr(client, method)(path)
            assert answer.status_code in {refused, 405 if refused == 302 else 403}, method
            assert refused == 302 or "may only read" in answer.content.decode()
        statuses = [one.get(path).status_code for one in (client, log_in("theirs"))]
        assert statuses[0] == statuses[1] < 500
    assert list(db["automations"].find()) == stored

"""Automations and runs with ids of every type: every path answers, and counts their runs."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from bson import Decimal128
from pymongo.database import Database

from tests.support.api_client import build_automation, build_path, build_run, log_in, make_client
from tests.support.commands import run_command
from tests.support.odd_documents import IDS
from tests.support.routes import OWNED, fill_in
from tracking.ids import name_id

Db = Database[dict[str, Any]]
_LIST = "/api/workspaces/ws1/runs?limit=2"


@pytest.fixture
def odd(db: Db) -> Db:
    db["automations"].insert_many([build_automation(_id=key) for key in IDS])
    now = datetime.now(UTC)
    for key in IDS:
        runs = [
            build_run("", age=now - now, user_id=f"u{number}")
            | {"_id": {"of": key, "n": number}, "automationId": form, "createdAt": now}
            for number, form in enumerate((key, name_id(key)))
        ]
        db["automation_runs"].insert_many(runs)
    # Of one time, and of every type: MongoDB orders them, whatever they are.
    at = now - timedelta(minutes=1)
    keys = [key for key in IDS if key != 42] + [Decimal128("42")]
    db["automation_runs"].insert_many(
        [build_run("a1", age=now - at) | {"_id": key, "createdAt": at} for key in keys]
    )
    run_command("add_run_fields")
    return db


def test_every_page_and_path_answers(odd: Db) -> None:
    browser, client = log_in(), make_client()
    shown = client.get(build_path()).json()["automations"]
    assert {one["_id"] for one in shown} == {name_id(key) for key in IDS}
    totals = {one["_id"]: one["totalRuns"] for one in shown}
    assert totals == {name_id(key): 2 for key in IDS} | {"a1": 2 + len(IDS)}
    for one in shown:
        assert one["stats"]["last24Hours"] == one["totalRuns"], one["_id"]
    for route in OWNED:
        if "<str:automation_id>" not in route or route.endswith("switch"):
            continue
        for key in IDS:
            path = fill_in(route, "ws1", automation_id=name_id(key))
            answer = (client if route.startswith("api") else browser).get(path)
            answer.getvalue()
            assert answer.status_code == 200, path
    for key in IDS:
        runs = client.get(build_path(quote(name_id(key)), "runs?limit=1")).json()["runs"]
        assert runs[0]["automationId"] == name_id(key)
        if key != 42:
            for path in ("/api/workspaces/ws1/runs/{}", "/workspaces/ws1/runs/{}/"):
                quoted = fill_in("<str:run_id>", "ws1", run_id=name_id(key))[1:]
                answer = (client if "api" in path else browser).get(path.format(quoted))
                assert answer.status_code == 200, path


def test_pages_of_runs_go_through_ids_of_every_type(odd: Db) -> None:
    client = make_client()
    seen: list[str] = []
    cursor = ""
    while True:
        answer = client.get(f"{_LIST}{cursor}")
        assert answer.status_code == 200, answer.content
        page = answer.json()
        seen += [one["_id"] for one in page["runs"]]
        if page["nextCursor"] is None:
            break
        cursor = f"&cursor={page['nextCursor']}"
    stored = odd["automation_runs"].find().sort([("createdAt", -1), ("_id", -1)])
    assert seen == [name_id(one["_id"]) for one in stored]

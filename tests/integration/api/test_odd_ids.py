"""Automations and runs with ids of every type are counted and paged."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from bson import Decimal128
from pymongo.database import Database

from automations.demo.store import read_totals
from tests.support.api_client import build_automation, build_path, build_run, log_in, make_client
from tests.support.commands import run_command
from tests.support.odd_documents import IDS
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


def test_counts_are_those_of_the_id_in_every_form(odd: Db) -> None:
    client = make_client()
    shown = client.get(build_path()).json()["automations"]
    names = {name_id(key) for key in IDS}
    totals = {one["_id"]: one["totalRuns"] for one in shown}
    assert totals == dict.fromkeys(names, 2) | {"a1": 2 + len(IDS)}
    assert {one["_id"]: one["stats"]["last24Hours"] for one in shown} == totals
    for name in names:
        [run] = client.get(build_path(quote(name), "runs?limit=1")).json()["runs"]
        assert run["automationId"] == name


@pytest.mark.parametrize("key", IDS, ids=repr)
def test_the_form_leads_back_to_the_page_of_its_automation(db: Db, key: Any) -> None:
    db["automations"].insert_one(build_automation(_id=key))
    page = f"/workspaces/ws1/automations/{quote(name_id(key))}/"
    saved = log_in().post(f"{page}change/", {"name": "New", "type": "comment_to_dm"})
    assert saved.status_code == 302, saved.content
    assert log_in().get(saved["Location"]).status_code == 200


def test_a_simulation_reads_the_totals_of_ids_of_every_type(odd: Db) -> None:
    totals = {name: total for name, (_, total) in read_totals().items()}
    assert totals == {name_id(key): 2 for key in IDS} | {"a1": 2 + len(IDS)}


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

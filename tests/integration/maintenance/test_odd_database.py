"""A database full of odd documents goes through everything that reads or writes it."""

import json
from typing import Any

import pytest
from pymongo.database import Database

from automations.privacy import erasure
from tests.support.api_client import log_in, make_client
from tests.support.commands import run_command
from tests.support.odd_documents import GOOD, IDS, PERSON, TWINS, fill_with_odd_documents
from tests.support.oracle import recount
from tests.support.routes import OWNED, fill_in
from tests.support.tracker import Tracker
from tests.support.triggers import make_trigger, now_in_milliseconds
from tests.support.verification_cases import COPIES, verify
from tracking.ids import list_stored_forms, name_id
from tracking.runs import Outcome

Db = Database[dict[str, Any]]
KEYS = [*GOOD, *TWINS, *IDS]


def read_every_path() -> None:
    browser, client = log_in(), make_client()
    for route in OWNED:
        names = {name_id(key) for key in KEYS} if "<str:automation_id>" in route else {""}
        if "<str:run_id>" in route:
            names = {
                one["_id"]
                for one in client.get("/api/workspaces/ws1/runs?limit=100").json()["runs"]
            }
        for name in names:
            path = fill_in(route, "ws1", automation_id=name, run_id=name)
            answer = (client if route.startswith("api") else browser).get(path)
            answer.getvalue()
            assert answer.status_code in (200, 204, 405), path


@pytest.mark.parametrize("seed", [1])
def test_nothing_stops_and_everything_odd_is_named_once(
    db: Db, tracker: Tracker, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(erasure, "_GRACE_SECONDS", 0.0)
    at = now_in_milliseconds()
    named = fill_with_odd_documents(db, at=at, seed=seed)
    assert sum(named.values()) >= 200 - named[""]
    read_every_path()
    for command in (["add_run_fields", "--dry-run"], ["add_run_fields"], ["add_run_indexes"]):
        run_command(*command)
    triggers = [
        make_trigger(automation_key=key, automation_id=name_id(key), workspace_id="ws1",
                     account_id="178414", arrived_at=at, user_id="new")
        for key in {name_id(key): key for key in KEYS}.values()
    ]  # fmt: skip
    assert set(tracker.record(*triggers)) == {Outcome.COUNTED}
    read_every_path()
    for action in ("off", "on"):
        run_command("tracking", action)
    run_command("reconcile_runs")
    assert run_command("reconcile_runs", "--dry-run")[0] == "nothing differs"
    _, findings = verify("--full")
    for what, number in named.items():
        if what:
            assert findings[what]["figure"].startswith(f"{number}"), (what, findings[what])
    wrong = {what for what, one in findings.items() if one["state"] == "wrong"}
    # They follow from the others: a contact from its run, the copy of a twin from the twin's.
    more = {"contacts in the future", COPIES, "active automations that match nothing"}
    assert wrong - more == {what for what in named if what}
    assert findings[COPIES]["figure"].startswith("1 of ")
    assert f": {name_id(TWINS[0])} (" in findings[COPIES]["figure"]
    assert findings["active automations that match nothing"]["figure"].startswith("1: ~BwAAAAoAAA")
    good = {name_id(key) for key in GOOD}
    assert [one for one in recount(db, at=at) if any(name in one for name in good)] == []
    found = json.loads("\n".join(run_command("export_person", "all", str(PERSON))))
    mine = db["automation_runs"].count_documents(
        {"userId": {"$in": list_stored_forms(str(PERSON))}}
    )
    assert len(found["automation_runs"]) == mine > 20
    run_command("erase_person", "all", str(PERSON))
    assert not db["automation_runs"].count_documents(
        {"userId": {"$in": list_stored_forms(str(PERSON))}}
    )
    assert [one for one in recount(db, at=at) if any(name in one for name in good)] == []

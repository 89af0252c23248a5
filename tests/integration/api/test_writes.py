"""Creating, changing and deleting automations over HTTP."""

from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Int64, ObjectId
from django.test import Client

from tests.support.api_client import (
    Db,
    build_automation,
    build_path,
    build_run,
    log_in,
    make_client,
)

JSON = "application/json"
NEW: dict[str, Any] = {
    "name": "Link",
    "type": "comment_to_dm",
    "accountId": "178414",
    "trigger": {"keywords": ["LINK"], "match": "word"},
    "mainDm": {"text": "Here", "links": [{"title": "Shop", "url": "https://example.com/"}]},
}


def create(client: Client, *, workspace_id: str = "ws1", **fields: Any) -> dict[str, Any]:
    path = build_path(workspace_id=workspace_id)
    response = client.post(path, {**NEW, **fields}, content_type=JSON)
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()["automation"]
    return created


def test_a_created_automation_is_stored_and_answered(db: Db) -> None:
    before, client = datetime.now(UTC).replace(microsecond=0), make_client()
    response = client.post(build_path(), NEW, content_type=JSON)
    assert response.status_code == 201
    shown = response.json()["automation"]
    assert response["Location"] == build_path(shown["_id"])
    [stored] = db["automations"].find()
    assert isinstance(stored["_id"], ObjectId)
    assert isinstance(stored["totalRuns"], int)
    assert str(stored["_id"]) == shown["_id"]
    assert before <= stored["createdAt"] <= datetime.now(UTC)
    assert stored == {
        **NEW, "_id": stored["_id"], "workspaceId": "ws1", "isActive": True,
        "totalRuns": 0, "lastRunAt": None,
        "createdAt": stored["createdAt"], "updatedAt": stored["createdAt"],
    }  # fmt: skip
    assert db["automations"].count_documents({"totalRuns": {"$type": "long"}}) == 1
    assert shown["stats"] == {"totalRuns": 0, "last24Hours": 0, "last7Days": 0}
    assert (shown["totalRuns"], shown["lastRunAt"]) == (0, None)
    assert client.get(build_path()).json()["automations"] == [shown]
    assert client.get(build_path(shown["_id"])).json()["automation"] == shown


def test_an_account_of_another_workspace_is_refused_and_changes_nothing(db: Db) -> None:
    client = make_client()
    created = create(client)
    db["accounts"].insert_one({"_id": "theirs", "workspaceId": "ws2"})
    db["accounts"].insert_one({"_id": "ours", "workspaceId": "ws1"})
    create(make_client("ws2"), workspace_id="ws2", accountId="named")
    for account_id in ("theirs", "named"):
        for answer in (
            client.post(build_path(), {**NEW, "accountId": account_id}, content_type=JSON),
            client.patch(build_path(created["_id"]), {"accountId": account_id}, content_type=JSON),
        ):
            assert answer.status_code == 400
            assert answer.json()["error"] == {
                "code": "other_workspace", "field": "accountId",
                "message": f"Account {account_id} belongs to another workspace.",
            }  # fmt: skip
    stored = db["automations"].find({"workspaceId": "ws1"})
    assert [one["accountId"] for one in stored] == ["178414"]
    assert create(client, accountId="ours")["accountId"] == "ours"


def test_changes_touch_only_what_they_name(db: Db) -> None:
    client = make_client()
    created = create(client, openingDm={"text": "Hi", "button": "Go"})
    [before] = db["automations"].find()
    response = client.patch(
        build_path(created["_id"]), {"isActive": False, "openingDm": None}, content_type=JSON
    )
    assert response.status_code == 200
    [after] = db["automations"].find()
    assert after.pop("updatedAt") >= before.pop("updatedAt")
    del before["openingDm"]
    assert after == {**before, "isActive": False}
    shown = response.json()["automation"]
    assert shown["isActive"] is False
    assert "openingDm" not in shown
    assert "stats" in shown


def test_an_older_products_automation_can_be_switched_off(db: Db) -> None:
    db["automations"].insert_one(
        {"_id": "old", "workspaceId": "ws1", "type": "poll", "isActive": "yes", "x": [1]}
    )
    response = make_client().patch(build_path("old"), {"isActive": False}, content_type=JSON)
    assert response.status_code == 200
    [stored] = db["automations"].find()
    stored.pop("updatedAt")
    assert stored == {
        "_id": "old", "workspaceId": "ws1", "type": "poll", "isActive": False, "x": [1],
    }  # fmt: skip


def test_a_deleted_automation_is_hidden_and_its_counts_stay(db: Db) -> None:
    automation = build_automation(totalRuns=Int64(7))
    db["automations"].insert_one(automation)
    db["automation_runs"].insert_one(build_run(automation["_id"], age=datetime.resolution))
    client = make_client()
    path = build_path(automation["_id"])
    response = client.delete(path)
    assert (response.status_code, response.json()) == (200, {"success": True})
    [stored] = db["automations"].find()
    assert stored["isActive"] is False
    assert stored["deletedAt"] == stored["updatedAt"]
    assert stored["totalRuns"] == 7
    assert db["automation_runs"].count_documents({}) == 1
    assert client.get(build_path()).json()["automations"] == []
    for again in (
        client.get(path), client.get(f"{path}/stats"), client.delete(path),
        client.patch(path, "{}", content_type=JSON),
    ):  # fmt: skip
        assert again.status_code == 404


def test_changes_by_form_are_refused(db: Db) -> None:
    # A form without the checkbox would read as isActive: false.
    automation = build_automation()
    db["automations"].insert_one(automation)
    response = make_client().patch(
        build_path(automation["_id"]), "name=x", content_type="application/x-www-form-urlencoded"
    )
    assert response.status_code == 415
    assert db["automations"].find_one() == automation


@pytest.mark.parametrize(
    ("setting", "account_id", "field", "said"),
    [
        ("AUTOMATIONS_PER_WORKSPACE", "other", None, "A workspace has no more than 2 automations."),
        ("AUTOMATIONS_PER_ACCOUNT", "178414", "accountId", "An account has no more than 2 "),
    ],
)
def test_one_automation_too_many(
    db: Db, settings: Any, setting: str, account_id: str, field: str | None, said: str
) -> None:
    setattr(settings, setting, 2)
    client = make_client()
    first, second = create(client), create(client)
    refused = client.post(build_path(), {**NEW, "accountId": account_id}, content_type=JSON)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["code"], error["field"]) == ("over_bound", field)
    assert error["message"].startswith(said)
    form = {"name": "n", "type": NEW["type"], "accountId": account_id, "isActive": "on"}
    page = log_in().post("/workspaces/ws1/new-automation/", form)
    assert (page.status_code, said in page.text) == (400, True)
    # What is there may change, and makes room when it is deleted.
    changed = client.patch(build_path(first["_id"]), {"accountId": "178414"}, content_type=JSON)
    assert changed.status_code == 200
    assert client.delete(build_path(second["_id"])).status_code == 200
    assert create(client)["accountId"] == "178414"
    assert db["automations"].count_documents({"deletedAt": None}) == 2


def test_an_automation_that_is_too_large(db: Db, settings: Any) -> None:
    settings.AUTOMATION_KILOBYTES = 1
    client = make_client()
    created = create(client)
    texts = {"commentReply": {"texts": ["x" * 600, "y" * 600]}}
    for answer in (
        client.post(build_path(), NEW | texts, content_type=JSON),
        client.patch(build_path(created["_id"]), texts, content_type=JSON),
    ):
        assert answer.status_code == 400
        assert "no more than 1,024 bytes" in answer.json()["error"]["message"]
    form = {"name": "n", "type": NEW["type"], "accountId": "178414", "isActive": "on",
            "commentReply.texts": "\n".join(texts["commentReply"]["texts"])}  # fmt: skip
    path = f"/workspaces/ws1/automations/{created['_id']}/change/"
    assert log_in().post(path, form).status_code == 400
    [stored] = db["automations"].find()
    assert "commentReply" not in stored

"""The list, one automation and its stats, as the API shows them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock

import bson
import pytest
from bson import Decimal128, Int64, ObjectId
from bson.raw_bson import RawBSONDocument
from django.test import Client
from pymongo.errors import AutoReconnect

from tests.support.api_client import NOON, Db, build_automation, build_path, build_run, make_client
from tracking.mongo import errors as mongo_errors


def test_the_list_has_its_exact_shape(db: Db) -> None:
    assert make_client().get(build_path()).json()["automations"] == []
    automation = build_automation(mainDm={"text": "Here", "links": []})
    db["automations"].insert_one(automation)
    response = make_client().get(build_path())
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    assert response["Cache-Control"] == "no-store"
    answer = response.json()
    as_of = datetime.fromisoformat(answer.pop("asOf"))
    assert abs(datetime.now(UTC) - as_of) < timedelta(minutes=1)
    assert answer == {
        "success": True,
        "pending": 0,
        "automations": [
            {
                "_id": str(automation["_id"]),
                "workspaceId": "ws1",
                "accountId": "178414",
                "name": "Link",
                "type": "comment_to_dm",
                "isActive": True,
                "trigger": {"match": "any"},
                "mainDm": {"text": "Here", "links": []},
                "totalRuns": 0,
                "lastRunAt": None,
                "createdAt": "2026-11-23T12:00:00.000Z",
                "updatedAt": "2026-11-23T12:00:00.000Z",
                "stats": {"totalRuns": 0, "last24Hours": 0, "last7Days": 0},
            }
        ],
    }


def test_runs_are_counted_in_their_windows(db: Db) -> None:
    automation = build_automation(totalRuns=Int64(152), lastRunAt=NOON)
    db["automations"].insert_one(automation)
    ages = [timedelta(hours=1), timedelta(hours=23), timedelta(hours=25), timedelta(days=8)]
    db["automation_runs"].insert_many([build_run(automation["_id"], age=age) for age in ages])
    [shown] = make_client().get(build_path()).json()["automations"]
    assert shown["stats"] == {"totalRuns": 152, "last24Hours": 2, "last7Days": 3}
    assert (shown["totalRuns"], shown["lastRunAt"]) == (152, "2026-11-23T12:00:00.000Z")


def test_without_stats_the_rest_is_the_same(db: Db, settings: Any) -> None:
    db["automations"].insert_one(build_automation(totalRuns=7, lastRunAt=NOON, stats={"old": 1}))
    client = make_client()
    with_stats = client.get(build_path()).json()
    settings.TRACKING_STATS_ENABLED = False
    without = client.get(build_path()).json()
    assert with_stats.pop("asOf") <= without.pop("asOf")
    assert with_stats["automations"][0].pop("stats")["totalRuns"] == 7
    assert without == with_stats


def test_the_newest_automation_is_first(db: Db) -> None:
    old_id = ObjectId.from_datetime(NOON - timedelta(days=300))
    db["automations"].insert_many([
        build_automation(_id="b", createdAt=NOON),
        build_automation(_id="a", createdAt=NOON),
        build_automation(_id="newest", createdAt=NOON + timedelta(milliseconds=1)),
        build_automation(_id=old_id, createdAt=None),
        build_automation(_id="unknown age", createdAt="monday"),
    ])  # fmt: skip
    shown = make_client().get(build_path()).json()["automations"]
    assert [one["_id"] for one in shown] == ["newest", "b", "a", str(old_id), "unknown age"]


def test_the_list_is_one_page(db: Db) -> None:
    db["automations"].insert_many([build_automation() for _ in range(250)])
    assert len(make_client().get(build_path()).json()["automations"]) == 250


def test_documents_of_an_older_product_are_listed(db: Db) -> None:
    strange = {
        "_id": ObjectId(),
        "workspaceId": "ws1",
        "type": "poll",
        "userId": ObjectId(),
        "price": Decimal128("9.90"),
        "ratio": float("nan"),
        "totalRuns": "many",
        "lastRunAt": "yesterday",
        "blob": b"\xff",
        "pattern": bson.Regex("^a"),
        "far": bson.datetime_ms.DatetimeMS(2**60),
        "config": {"accessToken": "hidden", "steps": [{"id": ObjectId()}]},
    }
    not_utf8 = bson.encode({"_id": "text", "workspaceId": "ws1", "trigger": [], "name": "caf~"})
    db["automations"].insert_one(RawBSONDocument(not_utf8.replace(b"caf~", b"caf\xe9")))
    db["automations"].insert_one({"_id": 42, "workspaceId": "ws1"})
    db["automations"].insert_one(strange)
    client = make_client()
    body = client.get(build_path())
    assert body.status_code == 200
    assert b"hidden" not in body.content
    shown = {one["_id"]: one for one in body.json()["automations"]}
    assert set(shown) == {str(strange["_id"]), "42", "text"}
    assert shown["text"]["name"] == "caf\ufffd"
    one = shown[str(strange["_id"])]
    assert one["userId"] == str(strange["userId"])
    assert (one["price"], one["ratio"], one["blob"], one["far"]) == ("9.90", None, "/w==", None)
    assert (one["totalRuns"], one["lastRunAt"]) == (0, None)
    for automation_id in shown:
        assert client.get(build_path(automation_id)).status_code == 200
        assert client.get(build_path(automation_id, "stats")).status_code == 200


def test_a_workspace_is_found_by_the_text_of_its_id(db: Db) -> None:
    workspace_id = ObjectId()
    db["automations"].insert_many([build_automation(workspaceId=workspace_id), build_automation()])
    path = build_path(workspace_id=str(workspace_id))
    [shown] = make_client(str(workspace_id)).get(path).json()["automations"]
    assert shown["workspaceId"] == str(workspace_id)


def test_stats_stand_alone_with_their_instant(db: Db, settings: Any) -> None:
    automation = build_automation(totalRuns=5, lastRunAt=NOON)
    db["automations"].insert_one(automation)
    client = make_client()
    shown = client.get(build_path(automation["_id"], "stats")).json()
    as_of = datetime.fromisoformat(shown.pop("asOf"))
    assert abs(datetime.now(UTC) - as_of) < timedelta(minutes=1)
    assert shown == {
        "success": True, "pending": 0, "_id": str(automation["_id"]), "totalRuns": 5,
        "lastRunAt": "2026-11-23T12:00:00.000Z",
        "stats": {"totalRuns": 5, "last24Hours": 0, "last7Days": 0},
    }  # fmt: skip
    settings.TRACKING_STATS_ENABLED = False
    assert "stats" not in client.get(build_path(automation["_id"], "stats")).json()


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer art_x", "Bearer a b", "Basic eDp5", "art_x",
               "Bearer \xff\xfe"],
)  # fmt: skip
def test_without_a_valid_token_it_is_401(db: Db, header: str | None) -> None:
    client = Client(headers={} if header is None else {"authorization": header})
    for path in (build_path(), build_path("x"), build_path("x", "stats")):
        response = client.get(path)
        assert response.status_code == 401
        assert response["WWW-Authenticate"] == "Bearer"
        body = response.json()
        assert body["success"] is False
        assert set(body["error"]) == {"code", "message", "field"}


def test_without_mongodb_it_is_503_and_says_when_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mongo_errors, "DEADLINE_SECONDS", 0.1)
    response = Client(headers={"authorization": "Bearer art_x"}).get(build_path())
    assert (response.status_code, response["Retry-After"]) == (503, "1")
    assert response.json()["error"]["code"] == "unavailable"


def test_a_database_that_goes_away_meanwhile_is_503_too(
    db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail = Mock(side_effect=AutoReconnect("primary gone"))
    monkeypatch.setattr("tracking.service.summarize_runs", fail)
    response = make_client().get(build_path())
    assert (response.status_code, response["Retry-After"]) == (503, "1")


def test_a_bug_of_ours_is_500_in_the_same_shape(
    db: Db, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail = Mock(side_effect=KeyError("secret detail"))
    monkeypatch.setattr("automations.rules.store.list_automations", fail)
    response = make_client().get(build_path())
    assert (response.status_code, response.json()["error"]["code"]) == (500, "server_error")
    assert "secret detail" not in response.text
    assert "❌ [API] GET /api/workspaces/ws1/automations: KeyError" in caplog.text

"""The API of runs: pages, one run, CSV, and what is refused by name."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from bson import ObjectId
from django.test import Client

from automations.api.runs import CSV_COLUMNS
from automations.rules import store
from tests.support.api_client import Db, build_automation, build_path, make_client
from tests.support.triggers import count_triggers, make_run, make_trigger
from tracking.exceptions import TrackingUnavailable
from tracking.queries import run_store

T = datetime(2026, 11, 20, 10, 20, 30, 400_000, tzinfo=UTC)
WORKSPACE = "/api/workspaces/ws1"


def insert_runs(db: Db, number: int, **fields: Any) -> list[dict[str, Any]]:
    shared = {"workspaceId": "ws1", "triggerType": "main_dm", "metadata": {"messageText": "hi"}}
    runs = [
        make_run("a1", T - timedelta(minutes=index), userId=f"p{index}") | shared | fields
        for index in range(number)
    ]
    db["automation_runs"].insert_many(runs)
    return runs


def get(path: str, **query: Any) -> Any:
    return make_client().get(path, query)


def read_csv(response: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(response.getvalue().decode(), newline="")))


class TestPages:
    def test_a_run_has_its_exact_shape(self, db: Db) -> None:
        [run] = insert_runs(
            db, 1, eventId="18", steps={"main_dm": {"state": "sent", "at": T}}, completedAt=T
        )
        answer = get(f"{WORKSPACE}/runs").json()
        assert answer.pop("asOf").endswith("Z")
        assert answer == {
            "success": True,
            "runs": [{
                "_id": str(run["_id"]),
                "automationId": "a1",
                "workspaceId": "ws1",
                "triggerType": "main_dm",
                "userId": "p0",
                "metadata": {"messageText": "hi"},
                "createdAt": "2026-11-20T10:20:30.400Z",
                "eventId": "18",
                "steps": {"main_dm": {"state": "sent", "at": "2026-11-20T10:20:30.400Z"}},
                "completedAt": "2026-11-20T10:20:30.400Z",
            }],
            "nextCursor": None,
            "from": None,
            "to": None,
            "pending": 0,
        }  # fmt: skip

    def test_pages_follow_each_other(self, db: Db) -> None:
        insert_runs(db, 7)
        seen: list[str] = []
        query: dict[str, Any] = {"limit": 3}
        for _ in range(3):
            answer = get(f"{WORKSPACE}/runs", **query).json()
            seen += [run["userId"] for run in answer["runs"]]
            # Only the first page looks what waits.
            assert answer["pending"] == (None if "cursor" in query else 0)
            query["cursor"] = answer["nextCursor"]
        assert seen == [f"p{number}" for number in range(7)]
        assert query["cursor"] is None

    def test_filters(self, db: Db) -> None:
        insert_runs(db, 2, steps={"main_dm": {"state": "failed", "at": T}})
        insert_runs(db, 1, triggerType="opening_dm", metadata={"postId": "m1"}, userId="p7")
        for query, people in (
            ({"triggerType": "opening_dm"}, ["p7"]),
            ({"outcome": "failed"}, ["p0", "p1"]),
            ({"outcome": "main_dm.failed", "userId": "p1"}, ["p1"]),
            ({"outcome": "ask_follow.failed"}, []),
            ({"outcome": "completed"}, []),
            ({"postId": "m1"}, ["p7"]),
            ({"from": "2026-11-20T10:20:00Z"}, ["p0", "p7"]),
            ({"to": "2026-11-20T15:50:00+05:30"}, ["p1"]),
            ({"from": "2026-11-20", "zone": "Asia/Kolkata", "to": "2026-11-21"},
             ["p0", "p7", "p1"]),
            ({"from": "2026-11-21"}, []),
        ):  # fmt: skip
            answer = get(f"{WORKSPACE}/runs", **query).json()
            assert sorted(run["userId"] for run in answer["runs"]) == sorted(people), query

    def test_a_filter_that_looks_at_too_many_runs(
        self, db: Db, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(run_store, "MOST_RUNS_TO_SEARCH", 2)
        insert_runs(db, 3)
        for path in ("runs", "runs.csv"):
            answer = get(f"{WORKSPACE}/{path}", postId="m1")
            assert answer.status_code == 400
            error = answer.json()["error"]
            assert (error["code"], error["field"]) == ("bad_range", "from")

    def test_an_automation_keeps_its_runs_when_it_is_deleted(self, db: Db) -> None:
        automation = build_automation()
        db["automations"].insert_one(automation)
        insert_runs(db, 2, automationId=str(automation["_id"]))
        insert_runs(db, 3)
        client = make_client()
        path = build_path(automation["_id"], "runs")
        assert len(client.get(path).json()["runs"]) == 2
        assert client.delete(build_path(automation["_id"])).status_code == 200
        assert len(client.get(path).json()["runs"]) == 2
        assert client.get(build_path("unknown", "runs")).status_code == 404


class TestOneRun:
    def test_a_run_and_the_events_behind_it(self, db: Db) -> None:
        automation = build_automation(_id="a1", accountId="17841400000000001")
        db["automations"].insert_one(automation)
        count_triggers(
            make_trigger(workspace_id="ws1", event_id="c1", send={"steps": [{"text": "hidden"}]})
        )
        [run] = db["automation_runs"].find()
        answer = get(f"{WORKSPACE}/runs/{run['_id']}")
        assert b"hidden" not in answer.content
        assert answer.json()["run"]["eventId"] == "c1"
        assert answer.json()["triggers"] == [
            {"kind": "comment", "eventId": "c1", "outcome": "counted", "state": "queued",
             "createdAt": "2026-11-23T10:20:30.400Z"},
        ]  # fmt: skip
        assert get(f"{WORKSPACE}/runs/{ObjectId()}").status_code == 404


class TestCsv:
    def test_it_equals_the_database(self, db: Db) -> None:
        """More than a page of the store and a piece of the answer."""
        texts = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", 'a,b\n"c"', "é💌", "", None]
        for number, text in enumerate(texts):
            insert_runs(db, 130, metadata={"messageText": text, "postId": f"m{number}"},
                        steps={"main_dm": {"state": "sent", "at": T}})  # fmt: skip
        response = get(f"{WORKSPACE}/runs.csv")
        assert response["Content-Type"] == "text/csv; charset=utf-8"
        assert response["Content-Disposition"] == 'attachment; filename="runs.csv"'
        rows = read_csv(response)
        stored = list(db["automation_runs"].find())
        stored.sort(key=lambda run: (run["createdAt"], run["_id"]), reverse=True)
        assert len(rows) == len(stored) == 1300
        for row, run in zip(rows, stored, strict=True):
            text = row["messageText"]
            assert not text.startswith(("=", "+", "-", "@", "\t", "\r"))
            assert text.removeprefix("'") == (run["metadata"]["messageText"] or "")
            assert (row["_id"], row["userId"], row["postId"], row["main_dm"]) == (
                str(run["_id"]), run["userId"], run["metadata"]["postId"], "sent",
            )  # fmt: skip
            assert datetime.fromisoformat(row["createdAt"]) == run["createdAt"]

    def test_filters_and_one_automation(self, db: Db) -> None:
        automation = build_automation(_id="a1")
        db["automations"].insert_one(automation)
        insert_runs(db, 3)
        insert_runs(db, 1, automationId="a2")
        assert len(read_csv(get(f"{WORKSPACE}/runs.csv"))) == 4
        assert len(read_csv(get(build_path("a1", "runs.csv")))) == 3
        [row] = read_csv(get(build_path("a1", "runs.csv"), userId="p2"))
        assert list(row) == list(CSV_COLUMNS)
        assert read_csv(get(build_path("a1", "runs.csv"), userId="nobody")) == []

    def test_a_database_that_is_away_is_no_half_file(
        self, db: Db, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fail = Mock(side_effect=TrackingUnavailable("away"))
        client = make_client(accept="text/csv")
        monkeypatch.setattr("tracking.reports.list_runs", fail)
        monkeypatch.setattr("tracking.queries.run_store.RunStore.list_page", fail)
        response = client.get(f"{WORKSPACE}/runs.csv")
        assert (response.status_code, response["Retry-After"]) == (503, "1")
        assert response.json()["error"]["code"] == "unavailable"


@pytest.mark.parametrize(
    ("path", "query", "field", "said"),
    [
        ("runs", "page=2", "page", "'page' is not a parameter. The parameters are: from, to"),
        ("runs", "limit=0", "limit", "greater than or equal to 1"),
        ("runs", "limit=201", "limit", "less than or equal to 200"),
        ("runs", "cursor=x", "cursor", "Use 'nextCursor'"),
        ("runs", "triggerType=poll", "triggerType", "not a valid choice"),
        ("runs", "outcome=main_dm.lost", "outcome", "not a valid choice"),
        ("runs", "from=yesterday", "from", "Write a date like"),
        ("runs", "from=2026-11-20T10:00:00", "from", "with its offset"),
        ("runs", "from=0001-01-01T00:00:00%2B14:00", "from", "Write a date like"),
        ("runs", "to=0001-01-01&zone=Asia/Tokyo", "to", "No zone has this day"),
        ("runs", "zone=Asia/Kalkutta", "zone", "Did you mean Asia/Calcutta?"),
        ("runs", "from=2026-11-21&to=2026-11-20", "from", "'from' should be before 'to'"),
        ("series", "unit=week", "unit", "not a valid choice"),
        ("series", "include=people,names", "include", "'names' cannot be included"),
        ("series", "unit=hour&from=2026-01-01", "from", "shorter range or for days"),
        ("series", "from=2999-01-01", "from", "in the past"),
        ("series", "from=1999-01-01&to=1999-01-02", "from", "2000 or later"),
        ("series", "to=2020-01-01&from=2020-01-01", "from", "before 'to'"),
        ("series", "limit=3", "limit", "is not a parameter"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    db: Db, path: str, query: str, field: str, said: str
) -> None:
    response = get(f"{WORKSPACE}/{path}?{query}")
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["field"] == field
    assert said in error["message"]


def test_paths_without_parameters_have_none(db: Db) -> None:
    response = get(build_path(), stats="1")
    assert response.status_code == 400
    message = "'stats' is not a parameter. This path has none."
    assert response.json()["error"] == {"code": "unknown", "message": message, "field": "stats"}
    assert make_client().post(f"{build_path()}?dry=1").json()["error"]["field"] == "dry"
    assert get(build_path(), format="json").status_code == 200


def test_a_body_that_is_too_large_is_413(db: Db, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    client: Client = make_client()
    for content_type in ("application/json", "application/x-www-form-urlencoded"):
        body = '{"name": "' + "x" * 1000 + '"}'
        response = client.post(build_path(), body, content_type=content_type)
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "too_large"
    assert store.list_automations("ws1") == []

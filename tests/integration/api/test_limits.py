"""A token that asks too often or too much at once is told when to come back, and it alone."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from rest_framework.throttling import UserRateThrottle

from automations.api.openapi import SchemaView
from automations.auth import tokens
from tests.support.api_client import Db, build_path, log_in, make_client


def test_too_many_requests(db: Db, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = settings.REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"]
    assert rates == {"user": f"{settings.API_REQUESTS_PER_MINUTE}/minute"}
    now = 1000.0
    monkeypatch.setattr(UserRateThrottle, "THROTTLE_RATES", {"user": "2/minute"})
    monkeypatch.setattr(UserRateThrottle, "timer", lambda _: now)
    client, other = make_client(), make_client()
    assert client.get(build_path()).status_code == 200
    now += 20
    assert client.get(build_path()).status_code == 200
    refused = client.get(build_path())
    assert refused.status_code == 429
    assert refused["Retry-After"] == "40"
    error = refused.json()["error"]
    assert (error["code"], error["field"]) == ("throttled", None)
    assert "40 seconds" in error["message"]
    assert other.get(build_path()).status_code == 200
    # Another's workspace is not there, however often one asks.
    assert client.get(build_path(workspace_id="ws2")).status_code == 404
    now += 40
    assert client.get(build_path()).status_code == 200


def test_a_page_counts_like_a_request_of_the_api(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UserRateThrottle, "THROTTLE_RATES", {"user": "2/minute"})
    client = log_in()
    assert client.get("/workspaces/ws1/").status_code == 200
    assert client.get(build_path()).status_code == 200
    refused = client.get("/workspaces/ws1/live")
    assert refused.status_code == 429
    assert 0 < int(refused["Retry-After"]) <= 60
    assert "Too many requests" in refused.text


def test_requests_at_once(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MOST_AT_ONCE", 2)
    client, browser = make_client(), log_in()
    with ExitStack() as others:
        for _ in range(2):
            others.enter_context(tokens.hold_share("ws1"))
        refused = [client.get(build_path()), browser.get("/workspaces/ws1/")]
        assert [(one.status_code, one["Retry-After"]) for one in refused] == [(429, "1")] * 2
        assert make_client("ws2").get(build_path(workspace_id="ws2")).status_code == 200
    assert [one.get(build_path()).status_code for one in (client, browser)] == [200, 200]


def test_a_file_is_a_request_until_it_is_read_or_its_reader_gone(
    db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "MOST_AT_ONCE", 1)
    client = make_client()
    for is_read in (True, False):
        file = client.get("/api/workspaces/ws1/runs.csv")
        assert file.status_code == 200
        assert client.get(build_path()).status_code == 429
        if is_read:
            assert file.getvalue().startswith(b"_id,")
        file.close()
        assert client.get(build_path()).status_code == 200


def test_the_schema_is_built_once_by_requests_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[object] = []
    build, start = SchemaGenerator.get_schema, threading.Barrier(4)

    def get_schema(self: SchemaGenerator, **options: Any) -> Any:
        built.append(self)
        return build(self, **options)

    def ask(_: int) -> tuple[int, bytes]:
        start.wait(10)
        answer = Client(headers={"accept": "application/json"}).get("/api/schema")
        return answer.status_code, answer.content

    monkeypatch.setattr(SchemaView, "_built", {})
    monkeypatch.setattr(SchemaGenerator, "get_schema", get_schema)
    with ThreadPoolExecutor(4) as pool:
        [(status, body)] = set(pool.map(ask, range(4)))
    assert (status, len(built)) == (200, 1)
    assert b"/api/workspaces/{wsid}/automations" in body

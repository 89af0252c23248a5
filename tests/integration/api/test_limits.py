"""A token that asks too often is told when to come back; nobody else notices."""

from typing import Any

import pytest
from pymongo.database import Database

from automations.auth.throttling import Limiter, TokenThrottle
from tests.support.api_client import build_path, make_client

Db = Database[dict[str, Any]]


@pytest.fixture(autouse=True)
def _fresh_limiter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TokenThrottle, "limiter", Limiter())


def test_too_many_requests(db: Db, settings: Any) -> None:
    settings.API_REQUESTS_PER_MINUTE = 2
    client, other = make_client(), make_client()
    assert [client.get(build_path()).status_code for _ in range(2)] == [200, 200]
    refused = client.get(build_path())
    assert refused.status_code == 429
    assert refused["Retry-After"] == "30"
    error = refused.json()["error"]
    assert (error["code"], error["field"]) == ("throttled", None)
    assert "30 seconds" in error["message"]
    assert other.get(build_path()).status_code == 200
    # Another's workspace is not there, however often one asks.
    assert client.get(build_path(workspace_id="ws2")).status_code == 404


def test_zero_is_no_limit(db: Db, settings: Any) -> None:
    settings.API_REQUESTS_PER_MINUTE = 0
    client = make_client()
    assert {client.get(build_path()).status_code for _ in range(30)} == {200}

"""A token that asks too often is told when to come back; nobody else notices."""

from typing import Any

import pytest
from rest_framework.throttling import UserRateThrottle

from tests.support.api_client import Db, build_path, make_client


def test_too_many_requests(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_setting_is_the_rate_and_zero_is_no_limit(
    db: Db, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = settings.REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"]["user"]
    assert rate == f"{settings.API_REQUESTS_PER_MINUTE}/minute"
    monkeypatch.setattr(UserRateThrottle, "THROTTLE_RATES", {"user": None})
    client = make_client()
    assert {client.get(build_path()).status_code for _ in range(30)} == {200}

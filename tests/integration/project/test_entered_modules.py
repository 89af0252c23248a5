"""How many of our modules a request enters on its way to its answer."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from pymongo.database import Database

from automations.rules import cache
from tests.support.api_client import build_path, make_client
from tests.support.webhook_cases import PATH, build_automation, build_body, build_comment, sign

PACKAGES = ("automations", "project", "tracking")
# From Django on; in front of it, the bridge of the web server is one more.
MOST_OF_A_DELIVERY = 19
MOST_OF_THE_LIST = 15


def list_entered(call: Callable[[], HttpResponse]) -> list[str]:
    """Return the modules whose functions this thread calls; the first calls fill the caches."""
    for _ in range(2):
        assert call().status_code == 200
    entered: set[str] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_globals.get("__name__", "")
        if event == "call" and name.partition(".")[0] in PACKAGES:
            entered.add(name)

    sys.setprofile(note)
    try:
        response = call()
    finally:
        sys.setprofile(None)
    assert response.status_code == 200
    return sorted(entered)


def test_a_delivery(db: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    # However slow the machine is, the rules are read once.
    monkeypatch.setattr(cache, "_FRESH_SECONDS", 600.0)
    db["automations"].insert_one(build_automation("a1"))
    bodies = iter([build_body(build_comment(number)) for number in range(3)])
    client = Client()  # one for all, as its first request loads the middleware

    def post() -> HttpResponse:
        body = next(bodies)
        headers = {"X-Hub-Signature-256": sign(body)}
        return client.post(PATH, body, content_type="application/json", headers=headers)

    entered = list_entered(post)
    assert len(entered) <= MOST_OF_A_DELIVERY, entered
    assert "automations.webhook.views" in entered


def test_the_list(db: Database[dict[str, Any]]) -> None:
    db["automations"].insert_one(build_automation("a1"))
    client = make_client()
    entered = list_entered(lambda: client.get(build_path()))
    assert len(entered) <= MOST_OF_THE_LIST, entered
    assert "automations.rules.store" in entered

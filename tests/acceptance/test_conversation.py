"""A whole conversation: Meta (a fake one), the webhook, a worker, and one person."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pymongo.database import Database

from automations.accounts import accounts
from automations.demo.sandbox import Sandbox
from automations.instagram.graph import GraphClient
from automations.outbox.wiring import build_worker
from tests.support.triggers import now_in_milliseconds
from tests.support.web_server import SECRET, WebServer

ACCOUNT, PERSON = "17841400000000001", "9001"


@pytest.fixture
def meta() -> Iterator[Sandbox]:
    with Sandbox(app_secret=SECRET) as meta:
        yield meta


@pytest.fixture
def _served(
    db: Database[dict[str, Any]], settings: Any, tmp_path: Path, meta: Sandbox
) -> Iterator[None]:
    """A web server and a worker, an account with a token, and an automation with every step."""
    settings.FIELD_ENCRYPTION_KEYS = (Fernet.generate_key().decode(),)
    at = now_in_milliseconds()
    accounts.add_account(ACCOUNT, workspace_id="w1", token=meta.add_account(ACCOUNT), at=at)
    db["automations"].insert_one({
        "_id": "a1", "workspaceId": "w1", "accountId": ACCOUNT, "type": "comment_to_dm",
        "isActive": True, "trigger": {"match": "contains", "keywords": ["link"]},
        "commentReply": {"texts": ["See your messages!"]},
        "openingDm": {"text": "Want the link?", "button": "Yes"},
        "askFollow": {"text": "Follow us first", "button": "Done"},
        "mainDm": {"text": "Here", "links": [{"title": "Shop", "url": "https://example.com/"}]},
        "createdAt": at, "totalRuns": 0, "lastRunAt": None,
    })  # fmt: skip
    with WebServer(tmp_path, uri=settings.MONGODB_URI) as web, GraphClient(meta.url) as graph:
        meta.set_webhook(f"{web.url}/api/webhooks/instagram", SECRET)
        worker = build_worker(graph)
        thread = threading.Thread(target=worker.run)
        thread.start()
        yield
        worker.stop()
        thread.join(10)


def wait_for(is_so: Callable[[], Any], *, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.05)


@pytest.mark.usefixtures("_served")
def test_from_a_comment_to_the_main_message(db: Database[dict[str, Any]], meta: Sandbox) -> None:
    def kinds() -> list[str]:
        return [received.kind for received in meta.journal(PERSON)]

    meta.comment(ACCOUNT, PERSON, "the link please")
    wait_for(lambda: len(kinds()) == 2)
    assert kinds() == ["public_reply", "private_reply"]
    meta.tap(PERSON, "Yes")
    wait_for(lambda: len(kinds()) == 3)
    assert meta.journal(PERSON)[-1].text == "Follow us first"
    meta.follow(PERSON, ACCOUNT)
    meta.tap(PERSON, "Done")
    wait_for(lambda: len(kinds()) == 4)
    main = meta.journal(PERSON)[-1]
    assert [button.kind for button in main.buttons] == ["web_url"]
    wait_for(lambda: db["automation_runs"].find_one({"completedAt": {"$exists": True}}))
    [run] = db["automation_runs"].find()
    assert {name: step["state"] for name, step in run["steps"].items()} == {
        "comment_reply": "sent",
        "opening_dm": "sent",
        "ask_follow": "sent",
        "main_dm": "sent",
    }
    assert run["userId"] == PERSON
    states = db["automation_triggers"].distinct("state")
    assert set(states) == {"waiting", "sent"}
    assert db["automation_contacts"].count_documents({}) == 1


@pytest.mark.usefixtures("_served")
def test_a_message_whose_answer_is_lost_is_settled_by_its_echo(
    db: Database[dict[str, Any]], meta: Sandbox
) -> None:
    meta.comment(ACCOUNT, PERSON, "the link please")
    wait_for(lambda: len(meta.journal(PERSON)) == 2)
    meta.follow(PERSON, ACCOUNT)
    meta.faults.script("lost", where="messages")
    meta.tap(PERSON, "Yes")
    wait_for(lambda: len(meta.journal(PERSON)) == 3)
    query = {"outcome": "continuation", "state": "sent"}
    wait_for(lambda: db["automation_triggers"].find_one(query))
    assert len(meta.journal(PERSON)) == 3

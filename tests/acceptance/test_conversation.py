"""A whole conversation: Meta (a fake one), the webhook, a worker, and one person."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pymongo.database import Database

from automations.accounts import accounts
from automations.demo.sandbox import Sandbox
from automations.instagram.graph import GraphClient
from automations.outbox.worker import Worker
from tests.support.triggers import now_in_milliseconds
from tests.support.waiting import wait_until
from tests.support.web_server import WebServer
from tests.support.webhook_cases import ACCOUNTS, SECRET, build_automation

ACCOUNT, PERSON = ACCOUNTS[0], "9001"


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
    accounts.add_account(ACCOUNT, workspace_id="ws1", token=meta.add_account(ACCOUNT), at=at)
    automation = build_automation(
        "a1",
        trigger={"match": "contains", "keywords": ["link"]},
        commentReply={"texts": ["See your messages!"]},
        openingDm={"text": "Want the link?", "button": "Yes"},
        askFollow={"text": "Follow us first", "button": "Done"},
        mainDm={"text": "Here", "links": [{"title": "Shop", "url": "https://example.com/"}]},
    )
    db["automations"].insert_one(automation)
    with WebServer(tmp_path, uri=settings.MONGODB_URI) as web, GraphClient(meta.url) as graph:
        meta.set_webhook(f"{web.url}/api/webhooks/instagram", SECRET)
        worker = Worker(graph)
        thread = threading.Thread(target=worker.run)
        thread.start()
        yield
        worker.stop()
        thread.join(10)


@pytest.mark.usefixtures("_served")
def test_from_a_comment_to_the_main_message(db: Database[dict[str, Any]], meta: Sandbox) -> None:
    def kinds() -> list[str]:
        return [received.kind for received in meta.journal(PERSON)]

    meta.comment(ACCOUNT, PERSON, "the link please")
    wait_until(lambda: len(kinds()) == 2)
    assert kinds() == ["public_reply", "private_reply"]
    meta.tap(PERSON, "Yes")
    wait_until(lambda: len(kinds()) == 3)
    assert meta.journal(PERSON)[-1].text == "Follow us first"
    meta.follow(PERSON, ACCOUNT)
    meta.tap(PERSON, "Done")
    wait_until(lambda: len(kinds()) == 4)
    main = meta.journal(PERSON)[-1]
    assert [button.kind for button in main.buttons] == ["web_url"]
    wait_until(lambda: db["automation_runs"].find_one({"completedAt": {"$exists": True}}))
    [run] = db["automation_runs"].find()
    states = {name: step["state"] for name, step in run["steps"].items()}
    assert states == dict.fromkeys(("comment_reply", "opening_dm", "ask_follow", "main_dm"), "sent")
    assert run["userId"] == PERSON
    assert set(db["automation_triggers"].distinct("state")) == {"waiting", "sent"}
    assert db["automation_contacts"].count_documents({}) == 1


@pytest.mark.usefixtures("_served")
def test_a_message_whose_answer_is_lost_is_settled_by_its_echo(
    db: Database[dict[str, Any]], meta: Sandbox
) -> None:
    meta.comment(ACCOUNT, PERSON, "the link please")
    wait_until(lambda: len(meta.journal(PERSON)) == 2)
    meta.follow(PERSON, ACCOUNT)
    meta.faults.script("lost", where="messages")
    meta.tap(PERSON, "Yes")
    wait_until(lambda: len(meta.journal(PERSON)) == 3)
    query = {"outcome": "continuation", "state": "sent"}
    wait_until(lambda: db["automation_triggers"].find_one(query))
    assert len(meta.journal(PERSON)) == 3

"""Every message goes out (I7): whatever of tracking fails, and while it is off."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.management import call_command
from pymongo.database import Database

from automations.accounts.accounts import add_account
from automations.accounts.encryption import make_key
from automations.outbox.worker import Worker
from tests.integration.conftest import VICTIM, FailPoint
from tests.integration.webhook.test_continuations import PARTS, build_messaging
from tests.support.oracle import recount
from tests.support.outbox_fakes import FakeGraph
from tests.support.triggers import now_in_milliseconds
from tests.support.uncounted import count_everything
from tests.support.webhook_cases import (
    ACCOUNTS,
    build_automation,
    build_body,
    build_comment,
    post_body,
)
from tracking import service
from tracking.mongo import client as mongo

# Everything of tracking but the triggers themselves, which are the queue.
COLLECTIONS = (
    "automation_runs", "automation_contacts", "automation_run_stats", "automation_hours",
    "tracking_switch", "tracking_partitions",
)  # fmt: skip
COMMANDS = ("find", "aggregate", "insert", "update", "findAndModify", "delete", "distinct", "count")
UNAUTHORIZED = 13  # as for a user whose role leaves one collection out
COMMENT = build_comment(1)
PERSON = COMMENT["from"]["id"]


@pytest.fixture
def served(
    fragile_db: Database[dict[str, Any]], fragile_server: str, settings: Any
) -> Iterator[Database[dict[str, Any]]]:
    """A database whose collections can be made to fail, with an automation and its account."""
    settings.MONGODB_URI = re.sub(r"/[^/]*\?", f"/{fragile_db.name}?", fragile_server)
    settings.MONGODB_URI += f"&appName={VICTIM}"
    settings.FIELD_ENCRYPTION_KEYS = (make_key(),)
    fragile_db["automations"].insert_one(build_automation("a1", **PARTS))
    add_account(ACCOUNTS[0], workspace_id="ws1", token="t", at=datetime.now(UTC))
    yield fragile_db
    service.close()
    mongo.close()


def hold_conversation() -> FakeGraph:
    """Somebody comments and taps; return what they were sent."""
    graph = FakeGraph()
    worker = Worker(graph)
    assert post_body(build_body(COMMENT)).status_code == 200
    worker.drain(now=now_in_milliseconds())
    [payload] = re.findall(r"run1\.[\w.-]+", json.dumps(graph.journal[-1].message))
    postback = {"mid": "tap1", "title": "Yes", "payload": payload}
    tap = build_messaging(sender={"id": PERSON}, postback=postback)
    assert post_body(tap).status_code == 200
    worker.drain(now=now_in_milliseconds())
    return graph


def check_sent(graph: FakeGraph) -> None:
    """Check that everything went out, once, to the right one."""
    assert [(one.kind, one.to) for one in graph.journal] == [
        ("public", COMMENT["id"]), ("private", COMMENT["id"]), ("dm", PERSON),
    ]  # fmt: skip
    assert graph.journal[-1].message == {"text": PARTS["mainDm"]["text"]}


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_a_collection_that_fails_stops_no_message(
    served: Database[dict[str, Any]], fail_point: FailPoint, collection: str
) -> None:
    with fail_point(*COMMANDS, namespace=collection, errorCode=UNAUTHORIZED):
        check_sent(hold_conversation())
    service.close()  # as if the process had come up again
    service.retry_stuck()
    count_everything(served)
    assert served["automation_runs"].count_documents({}) == 1
    assert served["automation_triggers"].count_documents({"partition": {"$exists": True}}) == 0
    assert recount(served) == []


@pytest.mark.parametrize("how", ["environment", "switch"])
def test_tracking_that_is_off_stops_no_message(
    served: Database[dict[str, Any]], settings: Any, how: str
) -> None:
    if how == "environment":
        settings.TRACKING_ENABLED = False
    else:
        call_command("tracking", "off")
    check_sent(hold_conversation())
    assert served["automation_runs"].count_documents({}) == 0
    settings.TRACKING_ENABLED = True
    call_command("tracking", "on")
    service.close()
    count_everything(served)
    assert served["automation_runs"].count_documents({}) == 1
    assert recount(served) == []

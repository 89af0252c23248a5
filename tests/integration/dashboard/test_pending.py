"""Pages say what their figures do not hold yet, and which automation is in the way."""

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from tests.integration.dashboard.conftest import list_texts, read_version
from tests.support.api_client import Db, build_automation
from tests.support.triggers import make_people, now_in_milliseconds
from tracking import service
from tracking.counting.switch import SwitchState, write_switch
from tracking.ids import partition_of

PAGES = ["/workspaces/ws1/", "/workspaces/ws1/live", "/workspaces/ws1/automations/a1/"]


@pytest.fixture(autouse=True)
def _waiting(db: Db) -> None:
    """In the workspace three events wait, and nothing is counted."""
    db["automations"].insert_one(build_automation(_id="a1", name="Price <list>"))
    write_switch(db, "tracking", SwitchState.OFF, now=now_in_milliseconds())
    service.record_triggers(
        make_people(3, workspace_id="ws1", arrived_at=now_in_milliseconds() - timedelta(seconds=1))
    )


def read_notes(page: str) -> list[str]:
    return list_texts(page, r'<p class="note pending"[^>]*>(.*?)</p>')


@pytest.mark.parametrize("path", PAGES)
def test_what_waits_is_said(visitor: Client, path: str) -> None:
    [note] = read_notes(visitor.get(path).text)
    assert note == "3 events are being counted and not in these figures yet."


@pytest.mark.parametrize("path", PAGES)
def test_an_automation_that_cannot_be_counted_is_named(db: Db, visitor: Client, path: str) -> None:
    now = datetime.now(UTC)
    stuck = {"reason": "a unique index refuses its runs", "since": now, "tries": 1, "retryAt": now}
    db["tracking_partitions"].update_one(
        {"_id": partition_of("a1")},
        {"$set": {"stuck": [{"automationId": "a1", **stuck}, {"automationId": "a2", **stuck}]}},
        upsert=True,
    )
    page = visitor.get(path).text
    waiting, named = read_notes(page)
    assert "3 events" in waiting
    assert named.startswith("Price <list> cannot be counted since just now : a unique index")
    assert "<list>" not in page


@pytest.mark.parametrize("path", PAGES)
def test_where_nothing_waits_nothing_is_said(db: Db, visitor: Client, path: str) -> None:
    db["automation_triggers"].delete_many({})
    assert read_notes(visitor.get(path).text) == []


def test_a_poll_goes_on_until_all_is_counted(db: Db, visitor: Client) -> None:
    version = read_version(visitor.get(PAGES[0]).text)
    assert version.endswith("-pending")
    assert visitor.get(PAGES[1], {"v": version}).status_code == 200

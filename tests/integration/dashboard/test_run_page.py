"""A run's page: what happened in it, in order, from the event to the last message."""

from datetime import UTC, datetime, timedelta

from bson import ObjectId
from django.test import Client

from tests.integration.dashboard.conftest import list_texts
from tests.integration.dashboard.test_automation_page import record, tell
from tests.support.api_client import Db, build_automation

AT = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)


def list_entries(page: str) -> list[str]:
    return list_texts(page, r'<li class="(?:ok|bad|quiet)">(.*?)</li>')


def test_a_run_from_its_event_to_its_end(db: Db, visitor: Client) -> None:
    db["automations"].insert_one(build_automation(_id="a1", name="Link"))
    record(("u1", AT), ("u1", AT + timedelta(minutes=5)))
    [run] = db["automation_runs"].find()
    [trigger] = db["automation_triggers"].find({"outcome": "counted"})
    db["automation_triggers"].insert_one({
        **trigger, "_id": "178414:message:tap", "outcome": "continuation",
        "continues": trigger["_id"], "createdAt": AT + timedelta(minutes=1), "state": "queued",
        "send": {"steps": [{"name": "ask_follow"}, {"name": "main_dm"}], "position": 1},
    })  # fmt: skip
    tell(db, "u1", "opening_dm", "sent")
    tell(db, "u1", "ask_follow", "skipped", reason="follows")
    page = visitor.get(f"/workspaces/ws1/runs/{run['_id']}/").text
    entries = list_entries(page)
    assert [entry.split(f" {AT.day} ")[0] for entry in entries] == [
        "A person commented and the run was counted from u1",
        "Opening message sent",
        "Request to follow skipped the person already follows",
        "The person tapped a button and continued the run",
        "The same person commented again within the hour, so it was answered but not counted",
        "Main message is queued",
    ]
    assert "· 2 seconds later" in entries[1]
    assert "· 5 minutes later" in entries[4]
    assert 'href="/workspaces/ws1/automations/a1/">Link</a>' in page
    assert str(run["_id"]) in page


def test_an_old_run_without_its_event(db: Db, visitor: Client) -> None:
    run_id = ObjectId()
    db["automation_runs"].insert_one(
        {"_id": run_id, "automationId": "gone", "workspaceId": "ws1", "createdAt": AT,
         "userId": "comment:17", "personUnknown": True, "triggerType": "main_dm",
         "metadata": {"messageText": "<i>hi</i>"}, "completedAt": AT + timedelta(days=2),
         "steps": {"main_dm": {"state": "sent", "at": AT + timedelta(hours=3)}}}
    )  # fmt: skip
    page = visitor.get(f"/workspaces/ws1/runs/{run_id}/").text
    entries = list_entries(page)
    assert entries[0].startswith("The run was counted <i>hi</i>")
    assert "3 hours later" in entries[1]
    assert "The run was completed" in entries[2]
    assert "2 days later" in entries[2]
    assert "is gone" in page
    assert "an automation that was deleted" in page
    assert "<i>" not in page

"""A new client, as when the embedded server has moved, has a new committer."""

from __future__ import annotations

from typing import Any

from pymongo.database import Database

from tracking import service
from tracking.mongo import client as mongo


def test_counting_goes_on_with_a_new_client(db: Database[dict[str, Any]]) -> None:
    db["automations"].insert_one({"_id": "a1", "workspaceId": "w1"})
    assert service.track_automation_run("a1", "w1", "opening_dm", "p1")
    mongo.close()
    assert service.track_automation_run("a1", "w1", "opening_dm", "p2")
    assert not service.track_automation_run("a1", "w1", "opening_dm", "p1")
    assert db["automation_runs"].count_documents({}) == 2

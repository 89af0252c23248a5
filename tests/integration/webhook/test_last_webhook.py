"""A delivery notes when Meta last sent something for an account."""

import json
from datetime import UTC, datetime
from typing import Any

from pymongo.database import Database

from automations.accounts import accounts
from automations.webhook.deliveries import handle_delivery
from tests.support.webhook_cases import read_payload


def test_a_delivery_notes_its_account(db: Database[dict[str, Any]]) -> None:
    accounts._noted_at.clear()
    body = read_payload("comments__feed")
    [entry] = json.loads(body)["entry"]
    db["accounts"].insert_one({"_id": entry["id"], "workspaceId": "w1"})
    arrived_at = datetime(2026, 11, 23, 10, 30, tzinfo=UTC)
    handle_delivery(body, arrived_at=arrived_at)
    accounts.finish_notes()
    account = db["accounts"].find_one({"_id": entry["id"]})
    assert account is not None
    assert account["lastWebhookAt"] == arrived_at

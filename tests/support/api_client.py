"""A client of the API that holds a token, and documents as the database has them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from django.test import Client
from pymongo.database import Database

from automations.auth.tokens import create_token
from tests.support import webhook_cases
from tests.support.triggers import make_run

Db = Database[dict[str, Any]]
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def make_client(workspace_id: str = "ws1", *, accept: str = "*/*", scope: str = "write") -> Client:
    secret, _ = create_token(workspace_id=workspace_id, at=datetime.now(UTC), scope=scope)
    return Client(headers={"authorization": f"Bearer {secret}", "accept": accept})


def log_in(workspace_id: str = "ws1", *, scope: str = "write", **options: Any) -> Client:
    secret, _ = create_token(workspace_id=workspace_id, at=datetime.now(UTC), scope=scope)
    client = Client(**options)
    assert client.post("/login", {"token": secret}).status_code == 302
    return client


def build_path(*parts: object, workspace_id: str = "ws1") -> str:
    return "/".join(["", "api", "workspaces", workspace_id, "automations", *map(str, parts)])


def build_automation(**fields: Any) -> dict[str, Any]:
    own = {"accountId": "178414", "mainDm": {"text": "Here"}, "createdAt": NOON, "updatedAt": NOON}
    return webhook_cases.build_automation(ObjectId(), **(own | fields))


def build_run(automation_id: object, *, age: timedelta, user_id: str = "u") -> dict[str, Any]:
    own = {"workspaceId": "ws1", "triggerType": "opening_dm", "userId": user_id, "metadata": {}}
    return make_run(str(automation_id), datetime.now(UTC) - age, **own)

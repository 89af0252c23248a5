"""What a tap or an echo has to be looked up for. All raise TrackingUnavailable."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from bson import ObjectId

from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded

Document = dict[str, Any]

_TRIGGER_FIELDS = {"automationId": 1, "workspaceId": 1, "triggerType": 1, "runId": 1, "send": 1}


def find_triggers(trigger_ids: Collection[str], *, seconds: float) -> dict[str, Document]:
    """Return those of the triggers that are still stored, by id."""
    query = {"_id": {"$in": list(trigger_ids)}}
    with bounded(seconds):
        found = mongo.get_database()["automation_triggers"].find(query, _TRIGGER_FIELDS)
        return {document["_id"]: document for document in found}


def find_automations(automation_ids: Collection[str], *, seconds: float) -> dict[str, Document]:
    """Return the automations, active or not, by the string form of their id."""
    if not automation_ids:
        return {}
    query = {"_id": {"$in": [key for text in automation_ids for key in _build_keys(text)]}}
    with bounded(seconds):
        found = mongo.get_database()["automations"].find(query)
        return {str(document["_id"]): document for document in found}


def list_awaited_people(
    account_id: str, user_ids: Iterable[str], *, seconds: float
) -> frozenset[str]:
    """Return those people to whom a message of the account was sent with no answer of Meta yet."""
    query = {
        "accountId": account_id,
        "userId": {"$in": list(user_ids)},
        "sendingAt": {"$exists": True},
    }
    with bounded(seconds):
        triggers = mongo.get_database()["automation_triggers"]
        return frozenset(triggers.distinct("userId", query))


def parse_key(text: str | None) -> Any:
    """Return an id as it is stored: an ObjectId where its text is one."""
    return ObjectId(text) if text is not None and ObjectId.is_valid(text) else text


def _build_keys(text: str) -> list[Any]:
    keys: list[Any] = [text]
    if ObjectId.is_valid(text):
        keys.append(ObjectId(text))
    if text.isdecimal() and len(text) <= 18:
        keys.append(int(text))
    return keys

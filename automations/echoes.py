"""Echoes settle what was sent without an answer: Meta's word that the message went out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import datetime

from automations import outbox
from automations.instagram.events import Echo
from tracking.exceptions import TrackingUnavailable
from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded


def settle_echoes(echoes: Sequence[Echo], *, arrived_at: datetime, deadline: float) -> int:
    """Settle what the echoes prove; return how many messages that were.

    Most echoes are of messages whose answer came, or of none of ours: one read an account tells
    them apart. Raises TrackingUnavailable past `deadline` (monotonic): Meta sends them again.
    """
    people: dict[str, set[str]] = {}
    for echo in echoes:
        people.setdefault(echo.account_id, set()).add(echo.user_id)
    awaited = {
        account_id: list_awaited_people(account_id, user_ids, seconds=deadline - time.monotonic())
        for account_id, user_ids in people.items()
    }
    settled = 0
    for echo in echoes:
        if echo.user_id not in awaited[echo.account_id]:
            continue
        if time.monotonic() >= deadline:
            raise TrackingUnavailable("the echoes of a delivery were not settled in time")
        at = echo.occurred_at or arrived_at
        settled += outbox.settle_by_echo(echo.account_id, echo.mid, echo.user_id, at)
    return settled


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

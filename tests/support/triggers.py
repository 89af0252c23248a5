"""Triggers for the tests of tracking, with every field filled in."""

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from tracking import service
from tracking.clock import truncate_to_milliseconds
from tracking.runs import Outcome, Trigger

T0 = datetime(2026, 11, 23, 10, 20, 30, 400_000, tzinfo=UTC)
WINDOW = timedelta(hours=1)
MILLISECOND = timedelta(milliseconds=1)

_event_numbers = count(1)


def make_trigger(**fields: Any) -> Trigger:
    """Return a trigger of automation `a1` and person `p1` at T0, an event of its own each time."""
    automation_id = str(fields.get("automation_id", fields.get("automation_key", "a1")))
    values: dict[str, Any] = {
        "account_id": "17841400000000001",
        "kind": "comment",
        "event_id": f"event-{next(_event_numbers)}",
        "automation_key": automation_id,
        "automation_id": automation_id,
        "workspace_id": "w1",
        "trigger_type": "comment_reply",
        "user_id": "p1",
        "arrived_at": T0,
        "metadata": {"messageText": "LINK please", "postId": "m1"},
    }
    return Trigger(**(values | fields))


def make_people(number: int, **fields: Any) -> list[Trigger]:
    """Return one trigger each of `number` different people."""
    return [make_trigger(user_id=f"p{index}", **fields) for index in range(1, number + 1)]


def now_in_milliseconds() -> datetime:
    return truncate_to_milliseconds(datetime.now(UTC))


def make_run(automation_id: str, created_at: datetime, **fields: Any) -> dict[str, Any]:
    """Return a run document as an older product left it: without `eventId`."""
    return {
        "automationId": automation_id,
        "workspaceId": "w1",
        "triggerType": "comment_reply",
        "userId": "p1",
        "metadata": {"messageText": "LINK please"},
        "createdAt": created_at,
    } | fields


def count_triggers(*triggers: Trigger, seconds: float = 20.0) -> list[Outcome]:
    """Store triggers and return what they came to, once this process's counter has counted them.

    A redelivery or what cannot be stored stays what it is.
    """
    stored = service.record_triggers(triggers, seconds=seconds)
    waiting = [one for one, outcome in zip(triggers, stored, strict=True)
               if outcome is Outcome.STORED]  # fmt: skip
    counted = iter(service.wait_for_outcomes(waiting, seconds=seconds))
    outcomes = [next(counted) if one is Outcome.STORED else one for one in stored]
    assert None not in outcomes, "not counted in time"
    return [one for one in outcomes if one is not None]

"""The trigger of an event that an automation answers."""

from datetime import datetime
from typing import Any

from automations.instagram.events import Event
from automations.outbox.plans import build_send
from automations.rules.automation import Automation
from tracking.runs import Trigger


def build_trigger(event: Event, automation: Automation, *, arrived_at: datetime) -> Trigger:
    """Return the trigger of an event that an automation answers, in tracking's plain values."""
    return Trigger(
        account_id=event.account_id,
        kind=event.kind,
        event_id=event.event_id,
        automation_key=automation.key,
        automation_id=automation.id,
        workspace_id=automation.workspace_id,
        trigger_type=automation.trigger_type,
        user_id=event.user_id,
        person_unknown=event.person_unknown,
        arrived_at=arrived_at,
        occurred_at=event.occurred_at,
        metadata=build_metadata(event),
        send=build_send(event, automation, arrived_at=arrived_at),
    )


def build_metadata(event: Event) -> dict[str, Any]:
    """Return the run's `metadata`, under the names that the live databases have."""
    metadata: dict[str, Any] = {}
    if event.text is not None:
        metadata["messageText"] = event.text
    if event.media_ids:
        metadata["postId"] = event.media_ids[0]
    if event.story_id is not None:
        metadata["storyId"] = event.story_id
    return metadata

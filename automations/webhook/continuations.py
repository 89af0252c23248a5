"""Taps carry runs on: each becomes a trigger of its own that continues another, never a run."""

from __future__ import annotations

from datetime import datetime

from automations.instagram.buttons import TapPayload, parse_payload
from automations.instagram.events import Event
from automations.outbox.send_plans import build_tap_send
from automations.rules.store import parse_key
from tracking.ids import parse_trigger_id
from tracking.runs import Trigger


def parse_tap(event: Event) -> TapPayload | None:
    """Return a tap's payload, or None if it is forged or was made for another account."""
    payload = parse_payload(event.payload or "")
    if payload is None or payload.trigger_id.count(":") < 2:
        return None
    is_own = parse_trigger_id(payload.trigger_id)[0] == event.account_id
    return payload if is_own else None


def build_continuation(event: Event, payload: TapPayload, *, arrived_at: datetime) -> Trigger:
    """Return the trigger of a tap.

    Nothing is read for it. The worker that claims it looks up the steps that are left, and its
    workspace (automations/outbox/taps.py).
    """
    return Trigger(
        account_id=event.account_id,
        kind=event.kind,
        event_id=event.event_id,
        automation_key=payload.automation_id,
        automation_id=payload.automation_id,
        workspace_id="",
        trigger_type=payload.step,
        user_id=event.user_id,
        arrived_at=arrived_at,
        occurred_at=event.occurred_at,
        metadata={},
        send=build_tap_send(payload.step, arrived_at=arrived_at),
        continues=payload.trigger_id,
        run_id=parse_key(payload.run_id),
    )

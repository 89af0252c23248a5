"""Taps carry runs on: each becomes a trigger of its own that continues another, never a run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from automations.instagram.buttons import TapPayload, parse_payload
from automations.instagram.events import Event
from automations.outbox.plans import build_tap_send
from automations.rules.steps import build_steps
from automations.rules.store import find_automations, parse_key
from tracking.ids import parse_trigger_id
from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded
from tracking.runs import Trigger

Document = Mapping[str, Any]

_TRIGGER_FIELDS = {"automationId": 1, "workspaceId": 1, "triggerType": 1, "runId": 1, "send": 1}


class Tap(msgspec.Struct, frozen=True):
    """A tap whose payload is proven to be ours."""

    event: Event
    payload: TapPayload


class Sources(msgspec.Struct, frozen=True):
    """What taps continue, as far as it is still there: triggers by id, and automations by id."""

    triggers: Mapping[str, Document]
    automations: Mapping[str, Document]


def parse_tap(event: Event) -> Tap | None:
    """Return the tap, or None if its payload is forged or was made for another account."""
    payload = parse_payload(event.payload or "")
    if payload is None or payload.trigger_id.count(":") < 2:
        return None
    is_own = parse_trigger_id(payload.trigger_id)[0] == event.account_id
    return Tap(event, payload) if is_own else None


def find_sources(taps: Sequence[Tap], *, read_seconds: Callable[[], float]) -> Sources:
    """Look up what the taps continue, in at most two reads. Raises TrackingUnavailable.

    A trigger is gone a week after its job ended; the run goes on with the automation as it is now.
    """
    if not taps:
        return Sources({}, {})
    triggers = find_triggers({tap.payload.trigger_id for tap in taps}, seconds=read_seconds())
    orphaned = {
        tap.payload.automation_id
        for tap in taps
        if not _has_steps(triggers.get(tap.payload.trigger_id))
    }
    return Sources(triggers, find_automations(orphaned, seconds=read_seconds()))


def build_continuation(tap: Tap, sources: Sources, *, arrived_at: datetime) -> Trigger:
    """Return the trigger of a tap: what is left to send of the one that it continues."""
    event, payload = tap.event, tap.payload
    source = sources.triggers.get(payload.trigger_id)
    automation = sources.automations.get(payload.automation_id)
    run_id = None if source is None else source.get("runId")
    workspace_id = (source or automation or {}).get("workspaceId")
    return Trigger(
        account_id=event.account_id,
        kind=event.kind,
        event_id=event.event_id,
        automation_key=payload.automation_id,
        automation_id=payload.automation_id,
        workspace_id="" if workspace_id is None else str(workspace_id),
        trigger_type=payload.step if source is None else source["triggerType"],
        user_id=event.user_id,
        arrived_at=arrived_at,
        occurred_at=event.occurred_at,
        metadata={},
        send=build_tap_send(
            _list_steps(source, automation),
            payload.step,
            root_id=((source or {}).get("send") or {}).get("rootId") or payload.trigger_id,
            arrived_at=arrived_at,
        ),
        continues=payload.trigger_id,
        run_id=parse_key(payload.run_id) if run_id is None else run_id,
    )


def _has_steps(source: Document | None) -> bool:
    return source is not None and source.get("send") is not None


def _list_steps(source: Document | None, automation: Document | None) -> Sequence[Document]:
    if source is not None and source.get("send") is not None:
        steps: Sequence[Document] = source["send"]["steps"]
        return steps
    if automation is None:
        return ()
    return [step.content for step in build_steps(automation, str(automation.get("type")))]


def find_triggers(trigger_ids: Collection[str], *, seconds: float) -> dict[str, Document]:
    """Return those of the triggers that are still stored, by id."""
    query = {"_id": {"$in": list(trigger_ids)}}
    with bounded(seconds):
        found = mongo.get_database()["automation_triggers"].find(query, _TRIGGER_FIELDS)
        return {document["_id"]: document for document in found}

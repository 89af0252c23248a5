"""The documents that a flush writes. Pure: plain values out of what was planned."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from tracking.ids import build_contact_id
from tracking.rollups.hours import build_increments, build_live_id
from tracking.runs import FlushPlan, Outcome, Planned

Document = dict[str, Any]
TRIGGER_RETENTION = timedelta(days=7)
# One with something to send: twice the longest window; whoever sends it shortens this.
JOB_RETENTION = timedelta(days=14)


def build_trigger(item: Planned) -> Document:
    """Return the document of `automation_triggers`."""
    trigger = item.trigger
    document: Document = {
        "_id": item.trigger_id,
        "accountId": trigger.account_id,
        "automationId": trigger.automation_id,
        "workspaceId": trigger.workspace_id,
        "triggerType": trigger.trigger_type,
        "userId": trigger.user_id,
        "createdAt": trigger.arrived_at,
        "outcome": item.outcome.value,
        "runId": item.run_id,
    }
    if trigger.occurred_at is not None:
        document["occurredAt"] = trigger.occurred_at
    if trigger.person_unknown:
        document["personUnknown"] = True
    if trigger.continues is not None:
        document["continues"] = trigger.continues
    if trigger.send is not None:
        document["send"] = trigger.send
        document["state"] = "queued"
        document["nextAt"] = trigger.arrived_at
    if item.outcome is Outcome.UNTRACKED:
        document["metadata"] = trigger.metadata  # the run is written from here later
    else:
        kept = TRIGGER_RETENTION if trigger.send is None else JOB_RETENTION
        document["expireAt"] = trigger.arrived_at + kept
    return document


def build_run(item: Planned) -> Document:
    """Return the document of `automation_runs`."""
    trigger = item.trigger
    document: Document = {
        "_id": item.run_id,
        "automationId": trigger.automation_id,
        "workspaceId": trigger.workspace_id,
        "triggerType": trigger.trigger_type,
        "userId": trigger.user_id,
        "metadata": trigger.metadata,
        "createdAt": trigger.arrived_at,
        "eventId": trigger.event_id,
    }
    if trigger.occurred_at is not None:
        document["occurredAt"] = trigger.occurred_at
    if trigger.person_unknown:
        document["personUnknown"] = True
    return document


def build_contacts(plan: FlushPlan) -> tuple[list[Document], list[Document]]:
    """Return the contacts to insert, and the updates of those that are stored."""
    owners = {
        build_contact_id(item.trigger.automation_id, item.trigger.user_id): item.trigger
        for item in plan.planned
        if item.outcome is Outcome.COUNTED
    }
    inserts: list[Document] = []
    updates: list[Document] = []
    for contact_id, trigger in owners.items():
        claim = plan.claims[contact_id]
        if claim.is_stored:
            change = {
                "$set": {"lastRunAt": claim.last_run_at, "lastRunId": claim.last_run_id},
                "$inc": {"runs": claim.new_runs},
            }
            updates.append({"q": {"_id": contact_id}, "u": change})
        else:
            inserts.append({
                "_id": contact_id, "automationId": trigger.automation_id,
                "workspaceId": trigger.workspace_id, "userId": trigger.user_id,
                "firstRunAt": claim.first_run_at, "lastRunAt": claim.last_run_at,
                "lastRunId": claim.last_run_id, "runs": claim.new_runs,
            })  # fmt: skip
    return inserts, updates


def build_live_updates(planned: Iterable[Planned], *, stripe: int) -> list[Document]:
    """Return the upserts that add counted runs and duplicates to a stripe's live documents."""
    planned = list(planned)
    newest: dict[str, datetime] = {}
    for item in planned:
        if item.outcome is Outcome.COUNTED:
            automation_id = item.trigger.automation_id
            arrived_at = item.trigger.arrived_at
            known = newest.get(automation_id)
            if known is None or arrived_at > known:
                newest[automation_id] = arrived_at
    updates: list[Document] = []
    for automation_id, increments in build_increments(planned).items():
        update: Document = {
            "$inc": increments,
            "$setOnInsert": {"automationId": automation_id, "stripe": stripe},
        }
        if automation_id in newest:
            update["$max"] = {"lastRunAt": newest[automation_id]}
        live_id = build_live_id(automation_id, stripe)
        updates.append({"q": {"_id": live_id}, "u": update, "upsert": True})
    return updates

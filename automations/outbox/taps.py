"""Taps: what is left to send after one, and which of several taps sends it.

The webhook stores a tap with the name of the tapped step alone; its steps are looked up when a
worker first reads it.

The same button tapped twice is two triggers, and one of them sends. Which one sends a step is kept
on an earlier trigger, as `claims.<step>: {"by": trigger id, "at"}`: for the main message on the one
that began the conversation, so that it comes once on whatever way; for asking to follow on the one
whose message was tapped, so that each tap that is no use is told. A claim lasts as long as a tap
keeps its window open. Afterwards, or where nothing came of it, the next tap is answered again.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from pymongo import UpdateOne
from pymongo.collection import Collection

from automations.instagram.limits import MESSAGE_WINDOW
from automations.outbox.jobs import Job, StepState, list_remaining
from automations.rules.steps import MAIN_DM, build_steps
from automations.rules.store import find_automations

Document = dict[str, Any]

_SOURCE_FIELDS = {"workspaceId": 1, "send.steps": 1, "send.rootId": 1}
_SECONDS = 3.0
# Nothing reached the person; "unknown" may have.
_CAME_TO_NOTHING = (StepState.FAILED.value, StepState.EXPIRED.value)


def add_steps(triggers: Collection[Document], account_id: str, jobs: Sequence[Document]) -> None:
    """Give the taps among an account's jobs what they have to send, here and as they are stored.

    It is what was left of the trigger whose message was tapped. That is gone a week after its job
    ended; the run then goes on with the automation as it is now, active or not.
    """
    taps = [job for job in jobs if "tapped" in job["send"] and "steps" not in job["send"]]
    if not taps:
        return
    source_ids = list({tap["continues"] for tap in taps})
    query = {"_id": {"$in": source_ids}, "accountId": account_id}
    sources = {one["_id"]: one for one in triggers.find(query, _SOURCE_FIELDS)}
    left = {key: (one.get("send") or {}).get("steps") for key, one in sources.items()}
    orphaned = {tap["automationId"] for tap in taps if left.get(tap["continues"]) is None}
    automations = find_automations(orphaned, seconds=_SECONDS)
    writes = []
    for tap in taps:
        source = sources.get(tap["continues"], {})
        automation = automations.get(tap["automationId"], {})
        # What cannot be read leaves the tap without steps, and that ends it alone.
        with suppress(AttributeError, KeyError, TypeError):
            steps = left.get(tap["continues"])
            if steps is None:
                built = build_steps(automation, str(automation.get("type")))
                steps = [step.content for step in built]
            found = {
                "workspaceId": str(source.get("workspaceId") or automation.get("workspaceId", "")),
                "send.steps": list_remaining(steps, tap["send"]["tapped"]),
                "send.rootId": (source.get("send") or {}).get("rootId") or tap["continues"],
            }
            tap["workspaceId"] = found["workspaceId"]
            tap["send"] |= {"steps": found["send.steps"], "rootId": found["send.rootId"]}
            is_new = {"send.steps": {"$exists": False}}
            query = {"_id": tap["_id"], "accountId": account_id, **is_new}
            writes.append(UpdateOne(query, {"$set": found}))
    if writes:
        triggers.bulk_write(writes, ordered=False)


def claim_step(triggers: Collection[Document], job: Job, *, at: datetime) -> bool:
    """Claim the step at the job's position; False: another tap of the same message has it.

    True also for a job that no tap has made, and where that earlier trigger is gone.
    """
    step = job.name_of(job.position)
    place = job.root_id if step == MAIN_DM else job.continues
    if place is None:
        return True
    field = f"claims.{step}"
    claim = {"$set": {field: {"by": job.id, "at": at}}}
    is_free = {"$or": [
        {f"{field}.by": {"$in": [None, job.id]}}, {f"{field}.at": {"$lte": at - MESSAGE_WINDOW}},
    ]}  # fmt: skip
    of_place = {"_id": place, "accountId": job.account_id}
    if triggers.update_one({**of_place, **is_free}, claim).matched_count:
        return True
    source = triggers.find_one(of_place, {field: 1})
    if source is None:
        return True
    holder_id = source["claims"][step]["by"]
    of_holder = {"_id": holder_id, "accountId": job.account_id}
    holder = triggers.find_one(of_holder, {f"progress.{step}.state": 1}) or {}
    if holder.get("progress", {}).get(step, {}).get("state") not in _CAME_TO_NOTHING:
        return False
    taken_over = triggers.update_one({**of_place, f"{field}.by": holder_id}, claim)
    return taken_over.matched_count == 1

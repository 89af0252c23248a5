"""Who answers a tap: the same button tapped twice is two triggers, and one of them sends.

Which one sends a step is kept on an earlier trigger, as `claims.<step>: {"by": trigger id, "at"}`:
for the main message on the one that began the conversation, so that it comes once on whatever way;
for asking to follow on the one whose message was tapped, so that each tap that is no use is told.
A claim lasts as long as a tap keeps its window open. Afterwards, or where nothing came of it, the
next tap is answered again.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pymongo.collection import Collection

from automations.instagram.limits import MESSAGE_WINDOW
from automations.outbox.jobs import Job, StepState
from automations.rules.steps import MAIN_DM

Document = dict[str, Any]

# Nothing reached the person; "unknown" may have.
_CAME_TO_NOTHING = (StepState.FAILED.value, StepState.EXPIRED.value)


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
    if triggers.update_one({"_id": place, **is_free}, claim).matched_count:
        return True
    source = triggers.find_one({"_id": place}, {field: 1})
    if source is None:
        return True
    holder_id = source["claims"][step]["by"]
    holder = triggers.find_one({"_id": holder_id}, {f"progress.{step}.state": 1}) or {}
    if holder.get("progress", {}).get(step, {}).get("state") not in _CAME_TO_NOTHING:
        return False
    taken_over = triggers.update_one({"_id": place, f"{field}.by": holder_id}, claim)
    return taken_over.matched_count == 1

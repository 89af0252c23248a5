"""A job is one trigger with messages to send.

What those are is the `send` of its document, frozen when the event arrives:

{"steps": [contents in order], "position": 0, "via": "private_reply" | "dm",
 "commentId"?, "isLive"?, "windowEndsAt", "tapped"?, "rootId"?}

That of a tap names the step that was `tapped`; its steps come later (automations/outbox/taps.py).
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

import msgspec

from automations.instagram.events import Event
from automations.instagram.limits import COMMENT_WINDOW, LIVE_WINDOW, MESSAGE_WINDOW
from automations.rules.automation import Automation
from automations.rules.steps import ASK_FOLLOW, STEPS_BY_TYPE

PRIVATE_REPLY: Final = "private_reply"
DM: Final = "dm"
# How the first message of a job is sent; each has its own lanes (automations/outbox/lanes.py).
VIAS = (PRIVATE_REPLY, DM)

DONE_RETENTION = timedelta(days=7)
# $expr uses an index only beside a bound of the field's own type.
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

# The longest sequence holds all others.
_PLACES = {name: place for place, name in enumerate(STEPS_BY_TYPE["comment_to_dm"])}

Document = dict[str, Any]
Content = Mapping[str, Any]


class JobState(StrEnum):
    """The state of a job; WAITING ends it too, because a tap creates a new job."""

    QUEUED = "queued"
    LEASED = "leased"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    EXPIRED = "expired"
    UNKNOWN = "unknown"
    WAITING = "waiting"
    SHADOW = "shadow"
    SKIPPED = "skipped"


class StepState(StrEnum):
    """The state of a step; SENDING is not final, because the call is running or interrupted."""

    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    SKIPPED = "skipped"
    SHADOW = "shadow"


class StepResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of one step, stored as `progress.<step>` and reported to the run.

    `mid` is Meta's id of the message, `code` and `subcode` its error, `reason` our own word.
    """

    state: StepState
    at: datetime
    mid: str | None = None
    code: int | None = None
    subcode: int | None = None
    reason: str | None = None

    def to_document(self) -> dict[str, Any]:
        """Return the result for BSON, without fields that are None."""
        document: dict[str, Any] = msgspec.to_builtins(self, builtin_types=(datetime,))
        return document


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a job. `next_at` goes with QUEUED; a final state sets `done_at`.

    `report_at` is set when the result belongs into the run, `read_at` when a profile read was
    promised for that time. `forgets` removes the mark that the step at the old position was being
    sent, because it was not.
    """

    state: JobState
    position: int
    results: Mapping[str, StepResult] = {}
    next_at: datetime | None = None
    attempts: int | None = None
    done_at: datetime | None = None
    report_at: datetime | None = None
    read_at: datetime | None = None
    forgets: bool = False


class Job(msgspec.Struct, kw_only=True, rename="camel"):
    """A job as it was claimed; `position`, `attempts` and `progress` follow its changes.

    `steps` are the contents to send in order, each with its `name`; `position` is the next one.
    `token` is the fencing token of the lease. `progress` holds the stored results by step;
    `report_at` is set if its run was not told all of them yet when the job was read. A tap's job
    `continues` the trigger whose message was tapped; `root_id` is the one that began it all.
    `outcome` is None until the job's trigger is counted, and `run_id` is not its run before that.
    """

    id: str = msgspec.field(name="_id")
    account_id: str
    automation_id: str
    user_id: str
    is_person_unknown: bool = msgspec.field(default=False, name="personUnknown")
    run_id: Any = None
    outcome: str | None = None
    created_at: datetime
    via: Literal["private_reply", "dm"] = DM
    steps: tuple[Mapping[str, Any], ...]
    position: Annotated[int, msgspec.Meta(ge=0)] = 0
    comment_id: str | None = None
    window_ends_at: datetime
    attempts: int = 0
    token: int = 0
    progress: dict[str, dict[str, Any]] = {}
    sending_at: datetime | None = None
    report_at: datetime | None = None
    read_at: datetime | None = None
    continues: str | None = None
    root_id: str | None = None

    def name_of(self, position: int) -> str:
        name: str = self.steps[position]["name"]
        return name


class BrokenJob(ValueError):
    """The document is no job that can be sent; the message names the fault."""


def parse_job(document: Mapping[str, Any]) -> Job:
    """Return the job in a document of `automation_triggers`. Raises BrokenJob."""
    try:
        send = document["send"]
        values = {
            # Without an end, that of a direct message: the shortest that is sure.
            "windowEndsAt": document["createdAt"] + MESSAGE_WINDOW,
            "rootId": document.get("continues"),
            "token": document.get("lease", {}).get("token", 0),
        }
        job = msgspec.convert({**values, **document, **send}, Job)
        names = [step["name"] for step in job.steps]
        if job.position > len(names):
            raise BrokenJob("position")
    except (AttributeError, KeyError, TypeError, msgspec.ValidationError) as error:
        raise BrokenJob(type(error).__name__) from error
    return job


# Ends a job that cannot be parsed.
END_BROKEN: Document = {
    "$set": {"state": JobState.FAILED.value},
    "$unset": {"nextAt": "", "lease": "", "sendingAt": "", "reportAt": ""},
    "$currentDate": {"doneAt": True},
}


def build_change(job: Job, change: Change) -> Document:
    set_: Document = {"state": change.state.value, "send.position": change.position}
    unset: Document = {}
    for name, result in change.results.items():
        set_[f"progress.{name}"] = result.to_document()
    if change.forgets:
        unset[f"progress.{job.name_of(job.position)}"] = ""
    set_ |= {
        "attempts": change.attempts,
        "nextAt": change.next_at,
        "readAt": change.read_at,
        "doneAt": change.done_at,
        # Uncounted triggers too: the TTL index holds none before it is counted.
        "expireAt": change.done_at and change.done_at + DONE_RETENTION,
        "reportAt": change.report_at,
    }
    if change.state is not JobState.LEASED:
        unset["lease.until"] = ""
    if change.state is not JobState.UNKNOWN:
        unset["sendingAt"] = ""
    if change.done_at is not None:
        unset |= {"nextAt": ""} if job.read_at is None else {"nextAt": "", "readAt": ""}
    given = {name: value for name, value in set_.items() if value is not None}
    update: Document = {"$set": given, "$unset": unset}
    mids = [result.mid for result in change.results.values() if result.mid is not None]
    if mids:
        update["$addToSet"] = {"mids": {"$each": mids}}
    return {name: part for name, part in update.items() if part}


def build_lapsed(moment: Any) -> Document:
    return {"lease.until": {"$gt": LONG_AGO}, "$expr": {"$lte": ["$lease.until", moment]}}


def build_send(
    event: Event, automation: Automation, *, arrived_at: datetime
) -> dict[str, Any] | None:
    """Return what the event's trigger has to send, ready for BSON; None if there is nothing.

    The contents are the automation's own, shared by all its triggers: never change them.
    """
    if automation.send is None:
        return None
    send = {"steps": automation.send["steps"], "position": 0}
    if event.kind != "comment":
        return send | {"via": DM, "windowEndsAt": arrived_at + MESSAGE_WINDOW}
    send |= {
        "via": PRIVATE_REPLY,
        "commentId": event.event_id,
        "windowEndsAt": arrived_at + (LIVE_WINDOW if event.is_live else COMMENT_WINDOW),
    }
    if event.is_live:
        send["isLive"] = True
    return send


def build_tap_send(tapped: str, *, arrived_at: datetime) -> dict[str, Any]:
    """Return what a tap under the step `tapped` has to send, whatever that will be."""
    window_ends_at = arrived_at + MESSAGE_WINDOW
    return {"tapped": tapped, "position": 0, "via": DM, "windowEndsAt": window_ends_at}


def list_remaining(steps: Sequence[Content], tapped: str) -> list[Content]:
    """Return the contents that follow a tap under the step `tapped`.

    Under `ask_follow` that is itself again: the tap says "I follow now", which has to be checked.
    """
    place = _PLACES.get(tapped, -1)
    first = place if tapped == ASK_FOLLOW else place + 1
    return [step for step in steps if _PLACES.get(step["name"], first) >= first]

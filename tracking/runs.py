"""What a run is: the values and the pure rules of counting. No clock, no database, no framework."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from tracking.ids import build_contact_id


class Outcome(StrEnum):
    """What became of a trigger: the first three are stored, the others answer who hands one in."""

    COUNTED = "counted"
    DUPLICATE = "duplicate"
    CONTINUATION = "continuation"
    STORED = "stored"
    REDELIVERED = "redelivered"
    REJECTED = "rejected"


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """One event that started an automation, in plain values.

    `account_id`, `kind` and `event_id` together identify the event; `automation_key` is the
    automation's own typed `_id`, `automation_id` its text form. Times are aware UTC, whole
    milliseconds. `send` is what has to be sent, ready for BSON, or None. A trigger that
    `continues` another, named by its id, carries that one's run on and never counts; `run_id` is
    the run as far as the caller knows it. `source` says how the event came to us, where that was
    not the webhook.
    """

    account_id: str
    kind: str
    event_id: str
    automation_key: Any
    automation_id: str
    workspace_id: str
    trigger_type: str
    user_id: str
    arrived_at: datetime
    metadata: Mapping[str, Any]
    occurred_at: datetime | None = None
    person_unknown: bool = False
    send: Mapping[str, Any] | None = None
    continues: str | None = None
    run_id: Any = None
    source: str | None = None


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A stored trigger that is not counted yet. `run_id` is the id that its run will have."""

    trigger_id: str
    automation_id: str
    user_id: str
    arrived_at: datetime
    run_id: Any
    continues: str | None = None

    @property
    def contact_id(self) -> str:
        """The `_id` of its pair in `automation_contacts`."""
        return build_contact_id(self.automation_id, self.user_id)


class Claim(msgspec.Struct):
    """What is known of one (automation, person) pair while a batch is planned.

    `near` are (time, id) of its runs around the batch, as far as they had to be read.
    """

    last_run_at: datetime | None = None
    last_run_id: Any = None
    first_run_at: datetime | None = None
    new_runs: int = 0
    is_stored: bool = False
    near: list[tuple[datetime, Any]] = []


class Decision(msgspec.Struct, frozen=True):
    """The outcome of a trigger, and the run it belongs to (None where that is not known)."""

    outcome: Outcome
    run_id: Any
    is_new_person: bool = False


def is_late(arrived_at: datetime, last_run_at: datetime | None, window: timedelta) -> bool:
    """Return whether a trigger is so old that other runs than its pair's newest decide it."""
    return last_run_at is not None and arrived_at < last_run_at - window


def find_run_near(
    arrived_at: datetime, runs: Iterable[tuple[datetime, Any]], window: timedelta
) -> Any | None:
    """Return the id of the run nearest to `arrived_at` within the window on either side."""
    near = [(abs(moment - arrived_at), index, run_id)
            for index, (moment, run_id) in enumerate(runs)
            if abs(moment - arrived_at) <= window]  # fmt: skip
    return min(near)[2] if near else None


def plan_batch(
    batch: Sequence[Waiting],
    *,
    claims: dict[str, Claim],
    continued: Mapping[str, Any],
    window: timedelta,
) -> list[Decision]:
    """Decide triggers in the order given, which is that of their arrival.

    A trigger is a duplicate if a run of its pair lies within the window before or after it, both
    edges included (I1, I2); for a prompt one that can only be the newest. `claims` are the pairs by
    contact id, changed in place and complete afterwards; `continued` are the runs of triggers that
    are continued and stand in no batch any more. Works on its arguments only.
    """
    decisions: list[Decision] = []
    decided: dict[str, Any] = {}
    for trigger in batch:
        if trigger.continues is not None:
            run_id = decided.get(trigger.continues, continued.get(trigger.continues))
            decision = Decision(Outcome.CONTINUATION, trigger.run_id if run_id is None else run_id)
        else:
            decision = _decide(trigger, claims, window)
        decided[trigger.trigger_id] = decision.run_id
        decisions.append(decision)
    return decisions


def _decide(trigger: Waiting, claims: dict[str, Claim], window: timedelta) -> Decision:
    contact_id = trigger.contact_id
    claim = claims.get(contact_id)
    if claim is None:
        claim = claims[contact_id] = Claim()
    arrived_at, last = trigger.arrived_at, claim.last_run_at
    late = is_late(arrived_at, last, window)
    if last is not None and not late and arrived_at <= last + window:
        return Decision(Outcome.DUPLICATE, claim.last_run_id)
    if late and (run_id := find_run_near(arrived_at, claim.near, window)) is not None:
        return Decision(Outcome.DUPLICATE, run_id)
    claim.new_runs += 1
    if claim.first_run_at is None or arrived_at < claim.first_run_at:
        claim.first_run_at = arrived_at
    if late:
        claim.near.append((arrived_at, trigger.run_id))
    else:
        claim.last_run_at, claim.last_run_id = arrived_at, trigger.run_id
    return Decision(Outcome.COUNTED, trigger.run_id, is_new_person=last is None)

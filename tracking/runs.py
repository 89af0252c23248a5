"""What a run is: the values and the pure rules of counting. No clock, no database, no framework."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from tracking.ids import build_contact_id


class Outcome(StrEnum):
    """What became of a trigger. The last two are answers only: nothing is stored under them."""

    COUNTED = "counted"
    DUPLICATE = "duplicate"
    UNTRACKED = "untracked"
    CONTINUATION = "continuation"
    REDELIVERED = "redelivered"
    REJECTED = "rejected"


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """One event that started an automation, in plain values.

    `account_id`, `kind` and `event_id` together identify the event; `automation_key` is the
    automation's own typed `_id`, `automation_id` its string form. Times are aware UTC,
    whole milliseconds. `send` is what has to be sent, ready for BSON, or None.

    A trigger that `continues` another, named by its id, carries on the run `run_id` (None if that
    other is not counted yet): it is stored, and it never counts. One that `is_late` is handled long
    after its arrival, when newer runs of its pair may exist: it is stored as untracked first, and
    `plan_replay` decides it.
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
    is_late: bool = False


class Claim(msgspec.Struct):
    """The state of one (automation, person) pair while a flush is planned.

    `is_erased`: only the hash of the pair is known, until its window ends.
    """

    last_run_at: datetime | None = None
    last_run_id: Any = None
    first_run_at: datetime | None = None
    new_runs: int = 0
    is_stored: bool = False
    is_erased: bool = False


class Planned(msgspec.Struct, frozen=True):
    """A trigger that is new, with its outcome and the run it belongs to (None if there is none)."""

    trigger: Trigger
    trigger_id: str
    outcome: Outcome
    run_id: Any
    is_new_person: bool = False


class FlushPlan(msgspec.Struct, frozen=True):
    """What one flush has to write, and the outcome of each of its triggers, in their order."""

    outcomes: list[Outcome]
    planned: list[Planned]
    claims: dict[str, Claim]


def is_duplicate(arrived_at: datetime, last_run_at: datetime | None, window: timedelta) -> bool:
    """Return whether a trigger lies in the window of its pair's newest run, edge included (I1)."""
    return last_run_at is not None and arrived_at <= last_run_at + window


def find_erased_run(trigger: Trigger, claims: Mapping[str, Claim], window: timedelta) -> Any:
    """Return the run whose duplicate an untracked trigger of an erased pair will be, or None.

    When it is counted, nobody will know any more that the two are of one person.
    """
    if not claims:
        return None
    claim = claims.get(build_contact_id(trigger.automation_id, trigger.user_id))
    if claim is None or not claim.is_erased or claim.last_run_at is None:
        return None
    return claim.last_run_id if abs(trigger.arrived_at - claim.last_run_at) <= window else None


def build_continuation(trigger: Trigger, trigger_id: str) -> Planned:
    """Return the plan of a trigger that carries a run on: no claim, no run, no count."""
    return Planned(trigger, trigger_id, Outcome.CONTINUATION, trigger.run_id)


def plan_flush(
    triggers: Sequence[Trigger],
    trigger_ids: Sequence[str],
    *,
    known_ids: Iterable[str],
    claims: dict[str, Claim],
    window: timedelta,
    run_ids: Iterable[Any],
) -> FlushPlan:
    """Decide every trigger of a flush in its order.

    `known_ids` are the trigger ids already stored, `claims` the stored pairs by contact id;
    claims are changed in place and come back with every pair that is new. `run_ids` yields a
    fresh id for each counted run. Works on its arguments only.
    """
    seen = set(known_ids)
    next_run_id = iter(run_ids).__next__
    outcomes: list[Outcome] = []
    planned: list[Planned] = []
    for trigger, trigger_id in zip(triggers, trigger_ids, strict=True):
        if trigger_id in seen:
            outcomes.append(Outcome.REDELIVERED)
            continue
        seen.add(trigger_id)
        if trigger.continues is not None:
            outcomes.append(Outcome.CONTINUATION)
            planned.append(build_continuation(trigger, trigger_id))
            continue
        if trigger.is_late:
            outcomes.append(Outcome.UNTRACKED)
            run_id = find_erased_run(trigger, claims, window)
            planned.append(Planned(trigger, trigger_id, Outcome.UNTRACKED, run_id))
            continue
        contact_id = build_contact_id(trigger.automation_id, trigger.user_id)
        claim = claims.get(contact_id)
        if claim is None:
            claim = claims[contact_id] = Claim()
        arrived_at = trigger.arrived_at
        if is_duplicate(arrived_at, claim.last_run_at, window):
            outcomes.append(Outcome.DUPLICATE)
            planned.append(Planned(trigger, trigger_id, Outcome.DUPLICATE, claim.last_run_id))
            continue
        is_new_person = claim.last_run_at is None or claim.is_erased
        claim.is_erased = False
        claim.last_run_at = arrived_at
        claim.last_run_id = next_run_id()
        claim.first_run_at = claim.first_run_at or arrived_at
        claim.new_runs += 1
        outcomes.append(Outcome.COUNTED)
        planned.append(
            Planned(trigger, trigger_id, Outcome.COUNTED, claim.last_run_id, is_new_person)
        )
    return FlushPlan(outcomes, planned, claims)


def plan_replay(
    triggers: Sequence[Trigger],
    trigger_ids: Sequence[str],
    *,
    runs: dict[str, list[tuple[datetime, Any]]],
    people: set[str],
    window: timedelta,
    run_ids: Iterable[Any],
) -> list[Planned]:
    """Decide triggers that were stored untracked, in their order.

    One is counted if no run of its pair lies within the window on either side: newer runs may
    exist, and two runs of a pair stay more than the window apart (I1, I2). `runs` are the (time,
    id) of the stored runs near them and `people` the pairs that have a run, both by contact id;
    both are changed in place.
    """
    next_run_id = iter(run_ids).__next__
    planned: list[Planned] = []
    for trigger, trigger_id in zip(triggers, trigger_ids, strict=True):
        if trigger.run_id is not None:  # of an erased pair: its run was known when it came
            planned.append(Planned(trigger, trigger_id, Outcome.DUPLICATE, trigger.run_id))
            continue
        contact_id = build_contact_id(trigger.automation_id, trigger.user_id)
        known = runs.setdefault(contact_id, [])
        near = [run for run in known if abs(run[0] - trigger.arrived_at) <= window]
        if near:
            _, run_id = min(near, key=lambda run: abs(run[0] - trigger.arrived_at))
            planned.append(Planned(trigger, trigger_id, Outcome.DUPLICATE, run_id))
            continue
        run_id = next_run_id()
        known.append((trigger.arrived_at, run_id))
        is_new_person = contact_id not in people
        people.add(contact_id)
        planned.append(Planned(trigger, trigger_id, Outcome.COUNTED, run_id, is_new_person))
    return planned


def plan_untracked(
    triggers: Sequence[Trigger],
    trigger_ids: Sequence[str],
    known_ids: Iterable[str],
    *,
    erased: Mapping[str, Claim],
    window: timedelta,
) -> FlushPlan:
    """Return the plan that stores every new trigger without counting it.

    A continuation never counts, so that it is stored as what it is. One in the window of an
    `erased` pair names that pair's run: it is its duplicate, which nobody could tell later.
    """
    seen = set(known_ids)
    outcomes: list[Outcome] = []
    planned: list[Planned] = []
    for trigger, trigger_id in zip(triggers, trigger_ids, strict=True):
        if trigger_id in seen:
            outcomes.append(Outcome.REDELIVERED)
            continue
        seen.add(trigger_id)
        if trigger.continues is not None:
            outcomes.append(Outcome.CONTINUATION)
            planned.append(build_continuation(trigger, trigger_id))
            continue
        outcomes.append(Outcome.UNTRACKED)
        run_id = find_erased_run(trigger, erased, window)
        planned.append(Planned(trigger, trigger_id, Outcome.UNTRACKED, run_id))
    return FlushPlan(outcomes, planned, {})

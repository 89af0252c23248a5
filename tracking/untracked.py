"""What is stored without being counted: tracking is off, or failed. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from tracking.runs import (
    Claim,
    FlushPlan,
    Outcome,
    Planned,
    Trigger,
    build_continuation,
    find_erased_run,
)


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

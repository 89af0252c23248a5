"""How far runs came, stage by stage, and what became of their steps."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from automations.dashboard.labels import (
    STEPS,
    describe_ignored,
    describe_reason,
    describe_state,
    describe_step,
)
from automations.rules.steps import ASK_FOLLOW, OPENING_DM
from tracking.queries.reasons import Reasons
from tracking.reports import Funnel, Uncounted

_ORDER = {step: number for number, step in enumerate(STEPS)}


_DUPLICATES = (
    "the same person had a run of this automation in the hour before: answered, not counted"
)
_PENDING = "they are stored, and counted in the order in which they came"
_REDELIVERED = "Instagram sent the same event again: neither answered nor counted again"


class Stage(msgspec.Struct, frozen=True):
    """A stage of the funnel: its name, how many runs came to it, and what share of all that is."""

    name: str
    runs: int
    percent: float


class OutcomeLine(msgspec.Struct, frozen=True):
    """So many runs have a step that came to this; `is_same`: as that of the line above."""

    step_key: str
    step: str
    is_same: bool
    tone: str
    state: str
    reason: str
    runs: int


def build_stages(funnel: Funnel, steps: Collection[str]) -> list[Stage]:
    """Return the stages that an automation with these steps has, or that its runs came to."""
    found = [("Started", funnel.triggered, True)]
    found.append(("Got the opening message", funnel.opened, OPENING_DM in steps))
    found.append(("Were asked to follow", funnel.asked, ASK_FOLLOW in steps))
    found.append(("Got everything", funnel.completed, True))
    most = max(funnel.triggered, 1)
    return [
        Stage(name, runs, round(min(100.0, 100 * runs / most), 1))
        for name, runs, is_part in found
        if is_part or runs
    ]


def build_outcomes(reasons: Reasons) -> list[OutcomeLine]:
    """Return what became of the steps, in the order of sending, the most frequent first."""
    lines: list[OutcomeLine] = []
    for one in sorted(reasons.reasons, key=lambda one: _ORDER.get(one.step, len(_ORDER))):
        tone, state = describe_state(one.state)
        reason = describe_reason(one.reason, code=one.code, subcode=one.subcode)
        is_same = bool(lines) and lines[-1].step_key == one.step
        lines.append(
            OutcomeLine(one.step, describe_step(one.step), is_same, tone, state, reason, one.runs)
        )
    return lines


class Line(msgspec.Struct, frozen=True):
    """So many events, what they were, and why they are no runs."""

    events: int
    name: str
    why: str


def build_uncounted(found: Uncounted) -> dict[str, Any]:
    """Return the automation's own events, and what else came to its account."""
    own = [
        Line(found.duplicates, "duplicates", _DUPLICATES),
        Line(found.pending, "not counted yet", _PENDING),
    ]
    of_account = [Line(found.redelivered, "redeliveries", _REDELIVERED)]
    of_account += [
        Line(events, reason.replace("_", " "), describe_ignored(reason))
        for reason, events in sorted(found.ignored.items(), key=lambda one: (-one[1], one[0]))
    ]
    return {
        "events": found.counted + found.duplicates + found.pending,
        "counted": found.counted,
        "own": [line for line in own if line.events],
        "of_account": [line for line in of_account if line.events],
    }

"""The funnel of an automation: stages, outcomes of steps, and events that are no runs."""

from collections.abc import Collection, Mapping
from typing import Any

from automations.dashboard.access import Reader
from automations.dashboard.formatting import describe_age
from automations.dashboard.labels import STEPS, describe_reason, describe_state, describe_step
from automations.instagram.events import IGNORED_REASONS
from automations.rules.steps import ASK_FOLLOW, OPENING_DM
from tracking import service
from tracking.queries.run_store import Reasons
from tracking.reports import Outcomes

_ORDER = {step: number for number, step in enumerate(STEPS)}

_DUPLICATES = (
    "the same person had a run of this automation within the hour, so they were answered only"
)
_PENDING = "they are stored, and counted in the order in which they came"
_REDELIVERED = "Instagram sent the same event again, which is neither answered nor counted"


def build_stages(found: Outcomes, steps: Collection[str]) -> list[tuple[str, int, float]]:
    """Return (name, runs, per cent) of the stages that the automation has or runs reached."""
    stages = [
        ("Started", found.counted, True),
        ("Got the opening message", found.opened, OPENING_DM in steps),
        ("Asked to follow", found.asked, ASK_FOLLOW in steps),
        ("Completed", found.completed, True),
    ]
    most = max(found.counted, 1)
    return [
        (name, runs, round(min(100.0, 100 * runs / most), 1))
        for name, runs, is_part in stages
        if is_part or runs
    ]


def build_outcomes(reasons: Reasons) -> list[dict[str, Any]]:
    """Return the outcomes of steps in words, in the order of sending."""
    lines = []
    for one in sorted(reasons.reasons, key=lambda one: _ORDER.get(one.step, len(_ORDER))):
        tone, state = describe_state(one.state)
        reason = describe_reason(one.reason, code=one.code, subcode=one.subcode)
        words = {"step": describe_step(one.step), "state": state, "reason": reason}
        lines.append({**words, "tone": tone, "runs": one.runs})
    return lines


def build_uncounted(found: Outcomes) -> dict[str, Any]:
    """Return (events, name, why) of the automation's events without a run, and the account's."""
    own = [
        (found.duplicates, "duplicates", _DUPLICATES),
        (found.pending, "not counted yet", _PENDING),
    ]
    ignored = sorted(found.ignored.items(), key=lambda one: (-one[1], one[0]))
    of_account = [
        (found.redelivered, "redeliveries", _REDELIVERED),
        *(
            (events, reason.replace("_", " "), IGNORED_REASONS.get(reason, reason))
            for reason, events in ignored
        ),
    ]
    return {
        "events": found.counted + found.duplicates + found.pending,
        "counted": found.counted,
        "own": [line for line in own if line[0]],
        "of_account": [line for line in of_account if line[0]],
    }


def build_pending(pending: int, names: Mapping[str, str], *, reader: Reader) -> dict[str, Any]:
    """Return how many events wait, and which of the named automations are stuck."""
    stuck = [one for one in service.list_stuck() if one.automation_id in names] if pending else []
    return {
        "pending": pending,
        "stuck": [
            {
                "name": names[one.automation_id],
                "reason": one.reason,
                "since_at": one.since,
                "since": describe_age(one.since, at=reader.at, zone=reader.zone),
            }
            for one in stuck
        ],
    }

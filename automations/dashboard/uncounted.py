"""Why not every event is a run: "200 comments, why 140 runs?"."""

from __future__ import annotations

from typing import Any

import msgspec

from automations.dashboard.outcomes import describe_ignored
from tracking.reports import Uncounted


class Line(msgspec.Struct, frozen=True):
    """So many events, what they were, and why they are no runs."""

    events: int
    name: str
    why: str


_DUPLICATES = (
    "the same person had a run of this automation in the hour before: answered, not counted"
)
_UNTRACKED = "counting was off or failed: they are stored, and manage.py tracking on counts them"
_REDELIVERED = "Instagram sent the same event again: neither answered nor counted again"


def build_uncounted(found: Uncounted) -> dict[str, Any]:
    """Return the automation's own events, and what else came to its account."""
    own = [
        Line(found.duplicates, "duplicates", _DUPLICATES),
        Line(found.untracked, "not counted yet", _UNTRACKED),
    ]
    of_account = [Line(found.redelivered, "redeliveries", _REDELIVERED)]
    of_account += [
        Line(events, reason.replace("_", " "), describe_ignored(reason))
        for reason, events in sorted(found.ignored.items(), key=lambda one: (-one[1], one[0]))
    ]
    return {
        "events": found.counted + found.duplicates + found.untracked,
        "counted": found.counted,
        "own": [line for line in own if line.events],
        "of_account": [line for line in of_account if line.events],
    }

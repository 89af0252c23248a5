"""What the figures of a page do not hold yet: events that wait, and the automations in the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automations.dashboard.access import Reader
from automations.dashboard.formatting import describe_age
from tracking import service


def build_pending_context(
    pending: int, names: Mapping[str, str], *, reader: Reader
) -> dict[str, Any]:
    """Return how many events wait of the automations with these names, and which are stuck.

    Raises TrackingUnavailable.
    """
    stuck = []
    if pending:
        stuck = [one for one in service.list_stuck() if one.automation_id in names]
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

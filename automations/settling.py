"""Storing what became of a step, also when the database is away for a while."""

from __future__ import annotations

import time
from collections.abc import Sequence

from automations.jobs import Change, Job, JobState
from automations.outbox_store import OutboxStore
from tracking.exceptions import TrackingUnavailable

# Meta's answer is known and must not be lost: worth more patience than a request has.
_PATIENCE_SECONDS = 45.0
_WAIT_SECONDS = 0.5


def settle_patiently(
    store: OutboxStore,
    job: Job,
    change: Change,
    *,
    expected: Sequence[JobState],
    without_echo: bool = False,
) -> bool:
    """Move a held job on, as `OutboxStore.settle` does; return whether it was still ours.

    Raises TrackingUnavailable when the database stays away: the lease then runs out.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return store.settle(job, change, expected=expected, without_echo=without_echo)
        except TrackingUnavailable:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_WAIT_SECONDS)

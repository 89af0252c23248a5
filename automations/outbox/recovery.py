"""Recovery: jobs whose call was cut off, whose window ended, or whose account was paused.

Never lost: a job is queued, held under a lease, or at its end. Never twice: `sending` is stored
before each call, and a call that did not come back is settled by its echo or stays unknown; only a
private reply is tried once more, because Meta accepts one for each comment.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import uuid4

from automations.outbox import transitions
from automations.outbox.jobs import Change, Job, JobState, StepResult, StepState
from automations.outbox.lanes import LaneStore
from automations.outbox.store import OutboxStore
from tracking.clock import read_now
from tracking.exceptions import TrackingUnavailable
from tracking.mongo import client as mongo

# Meta's answer is known and must not be lost: worth more patience than a request has.
_PATIENCE_SECONDS = 45.0
_WAIT_SECONDS = 0.5


def resume_account(account_id: str) -> None:
    """Let an account that was paused send at once, not at its next look. TrackingUnavailable."""
    LaneStore(mongo.get_database()).resume(account_id, now=read_now())


def settle_cut_off(
    store: OutboxStore, *, now: datetime | None, at: datetime, report: Callable[[Job, Change], None]
) -> int:
    """Settle what was being sent by workers that are gone; return how many jobs that were.

    An echo proves that the message went out; a private reply has one retry; the rest is unknown.
    """
    count = 0
    for job in store.list_cut_off(now=now):
        echo = job.progress.get(job.name_of(job.position), {}).get("echo")
        if echo is not None:
            result = StepResult(state=StepState.SENT, at=at, mid=echo)
            change = transitions.end_step(job, result, is_held=False)
        elif transitions.can_retry_unknown(job):
            change = transitions.retry_unknown(job, at=at)
        else:
            result = StepResult(state=StepState.UNKNOWN, at=at, reason="cut_off")
            change = transitions.end_step(job, result, is_held=False)
        if store.settle_cut_off(job, change):
            count += 1
            if change.report_at is not None:
                report(job, change)
    return count


def expire_queued(
    store: OutboxStore, account_id: str, via: str, *, at: datetime,
    report: Callable[[Job, Change], None],
) -> int:  # fmt: skip
    """End the queued jobs of an account whose window has ended; return how many."""
    count = 0
    before = -1
    while count > before:  # in batches, as long as there is one
        before = count
        for job in store.list_overdue(account_id, via, at=at):
            change = transitions.expire(job, at=at)
            if store.expire_queued(job, change):
                count += 1
                report(job, change)
    return count


def build_owner() -> str:
    """Return a name for the leases of this worker that no other has."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:12]}"


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

"""Recovery of jobs whose call was interrupted, whose window ended, or whose account was paused.

No job is lost: each is queued, leased, or at its end. None is sent twice: `sending` is stored
before each call, and a call without an answer is settled by its echo or stays unknown. Only a
private reply is retried once, because Meta accepts one per comment.
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

# Meta's answer is known and must not be lost, so this waits longer than a request would.
_PATIENCE_SECONDS = 45.0
_WAIT_SECONDS = 0.5


def resume_account(account_id: str) -> None:
    """Let a paused account send at once, not at its next turn. Raises TrackingUnavailable."""
    LaneStore(mongo.get_database()).resume(account_id, now=read_now())


def settle_cut_off(
    store: OutboxStore, *, now: datetime | None, at: datetime, report: Callable[[Job, Change], None]
) -> int:
    """Settle the interrupted calls of dead workers; return how many.

    An echo proves that the message was delivered; a private reply has one retry; the rest is
    unknown.
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
    store: OutboxStore,
    account_id: str,
    via: str,
    *,
    at: datetime,
    report: Callable[[Job, Change], None],
) -> int:
    """End an account's queued jobs whose window has ended; return how many."""
    count = 0
    before = -1
    while count > before:  # batch by batch
        before = count
        for job in store.list_overdue(account_id, via, at=at):
            change = transitions.expire(job, at=at)
            if store.expire_queued(job, change):
                count += 1
                report(job, change)
    return count


def build_owner() -> str:
    """Return a unique owner name for this worker's leases."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:12]}"


def settle_patiently(
    store: OutboxStore,
    job: Job,
    change: Change,
    *,
    expected: Sequence[JobState],
    without_echo: bool = False,
) -> bool:
    """Settle a held job like `OutboxStore.settle`, with retries; return whether it was ours.

    Raises TrackingUnavailable when the database stays unavailable; the lease then expires.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return store.settle(job, change, expected=expected, without_echo=without_echo)
        except TrackingUnavailable:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_WAIT_SECONDS)

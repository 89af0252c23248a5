"""The outbox: what is done with an account's jobs, and with those that were cut off.

Never lost: a job is queued, held under a lease, or at its end. Never twice: `sending` is stored
before each call, and a call that did not come back is settled by its echo or stays unknown; only a
private reply is tried once more, because Meta accepts one for each comment.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import Enum
from uuid import uuid4

from automations import flow
from automations.jobs import Change, Job, StepResult, StepState
from automations.lanes import LaneStore
from automations.outbox_store import OutboxStore
from automations.rules.steps import COMMENT_REPLY
from tracking.mongo import client as mongo

ACTIVE = "active"
# An echo carries Meta's own time: near the moment before the call, clocks being clocks.
_ECHO_BEFORE = timedelta(seconds=10)
_ECHO_AFTER = timedelta(minutes=2)


class Mode(Enum):
    """What is done with an account's jobs."""

    SEND = "send"
    SHADOW = "everything but the call"
    HOLD = "they stay queued until their window ends"


def find_mode(setting: str, *, has_token: bool, can_send: bool) -> Mode:
    """Return the mode of an account by INSTAGRAM_SENDING and whether it works.

    By default ("") an account is sent for if it has a token, else it is a shadow.
    """
    if setting == "off":
        return Mode.HOLD
    if setting == "shadow" or (setting == "" and not has_token):
        return Mode.SHADOW
    return Mode.SEND if can_send else Mode.HOLD


def settle_by_echo(account_id: str, mid: str, person_id: str, at: datetime) -> bool:
    """Note that Meta told us of a message from the account to the person; `at` is Meta's time.

    Return whether it settled a call that had not come back. An echo of a message that is known
    to be sent, or of none of ours, changes nothing. Raises TrackingUnavailable.
    """
    store = OutboxStore(mongo.get_database(), owner="echo")
    # Twice: the job may move from sending to unknown while we look at it.
    return any(_settle_by_echo(store, account_id, mid, person_id, at) for _ in range(2))


def _settle_by_echo(
    store: OutboxStore, account_id: str, mid: str, person_id: str, at: datetime
) -> bool:
    near = [
        job
        for job in store.find_unsettled(account_id, person_id)
        if job.sending_at is not None
        and job.name_of(job.position) != COMMENT_REPLY  # a comment has no echo
        and -_ECHO_BEFORE <= at - job.sending_at <= _ECHO_AFTER
        and "echo" not in job.progress.get(job.name_of(job.position), {})
    ]
    if not near or store.has_message(mid):
        return False
    job = min(near, key=lambda job: abs(at - (job.sending_at or at)))
    if store.note_echo(job, mid):  # its call may still come back and say the same
        return True
    result = StepResult(state=StepState.SENT, at=at, mid=mid)
    return store.settle_cut_off(job, flow.end_step(job, result, is_held=False))


def resume_account(account_id: str) -> None:
    """Let an account that was paused send at once, not at its next look. TrackingUnavailable."""
    LaneStore(mongo.get_database()).resume(account_id, now=datetime.now(UTC))


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
            change = flow.end_step(job, result, is_held=False)
        elif flow.can_retry_unknown(job):
            change = flow.retry_unknown(job, at=at)
        else:
            result = StepResult(state=StepState.UNKNOWN, at=at, reason="cut_off")
            change = flow.end_step(job, result, is_held=False)
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
            change = flow.expire(job, at=at)
            if store.expire_queued(job, change):
                count += 1
                report(job, change)
    return count


def build_owner() -> str:
    """Return a name for the leases of this worker that no other has."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:12]}"

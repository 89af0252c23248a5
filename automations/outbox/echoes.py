"""Echoes settle messages that were sent without an answer, because they prove delivery."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from automations.instagram.events import Echo
from automations.outbox import transitions
from automations.outbox.jobs import StepResult, StepState
from automations.outbox.store import OutboxStore
from automations.rules.steps import COMMENT_REPLY
from tracking.exceptions import TrackingUnavailable
from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded

# An echo carries Meta's time, which is near that of the call as far as clocks agree.
_ECHO_BEFORE = timedelta(seconds=10)
_ECHO_AFTER = timedelta(minutes=2)


def settle_echoes(echoes: Sequence[Echo], *, arrived_at: datetime, deadline: float) -> int:
    """Settle what the echoes prove; return how many messages.

    Most echoes are of messages that were answered, or of other apps; one read per account
    excludes them. Raises TrackingUnavailable past `deadline` (monotonic), so that Meta sends them
    again.
    """
    people: dict[str, set[str]] = {}
    for echo in echoes:
        people.setdefault(echo.account_id, set()).add(echo.user_id)
    awaited: set[tuple[str, str]] = set()
    for account_id, user_ids in people.items():
        # The people to whom a message without an answer was sent.
        query = {
            "accountId": account_id,
            "userId": {"$in": list(user_ids)},
            "sendingAt": {"$exists": True},
        }
        with bounded(deadline - time.monotonic()):
            found = mongo.get_database()["automation_triggers"].distinct("userId", query)
        awaited.update((account_id, user_id) for user_id in found)
    settled = 0
    for echo in echoes:
        if (echo.account_id, echo.user_id) not in awaited:
            continue
        if time.monotonic() >= deadline:
            raise TrackingUnavailable("the echoes of a delivery were not settled in time")
        at = echo.occurred_at or arrived_at
        settled += settle_by_echo(echo.account_id, echo.mid, echo.user_id, at)
    return settled


def settle_by_echo(account_id: str, mid: str, person_id: str, at: datetime) -> bool:
    """Record that Meta delivered a message to the person; `at` is Meta's time.

    Returns whether it settled a call without an answer. An echo of a message that is known to be
    sent, or of another app, changes nothing. Raises TrackingUnavailable.
    """
    store = OutboxStore(mongo.get_database(), owner="echo")
    # Twice, because the job may change from sending to unknown during the first look.
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
    return store.settle_cut_off(job, transitions.end_step(job, result, is_held=False))

"""What a job does next, and what each of Meta's answers means."""

import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from typing import Any

import msgspec

from automations.instagram.graph_errors import ErrorClass
from automations.outbox.jobs import PRIVATE_REPLY, Change, Job, JobState, StepResult, StepState
from automations.rules.steps import ASK_FOLLOW, COMMENT_REPLY, OPENING_DM


class Call(Enum):
    REPLY_PUBLICLY = "reply publicly"
    REPLY_PRIVATELY = "reply privately"
    SEND_MESSAGE = "send a message"
    CHECK_FOLLOW = "check whether the person follows"


class Follow(StrEnum):
    """The answer of the follow check; unknown is never treated as "no"."""

    YES = "follows"
    NO = "no"
    UNKNOWN = "unknown"


class Skip(msgspec.Struct, frozen=True):
    """The step is skipped, without a word to its run where there is no reason."""

    reason: str | None = None


# Every other class is a refusal.
_NO_REFUSALS = frozenset({
    ErrorClass.UNKNOWN,  # it may have been delivered, so it is not sent again blindly
    ErrorClass.NOT_SENT,  # it is retried later
    ErrorClass.RATE,  # all messages of the account wait
    ErrorClass.TOKEN_DEAD,  # the account is paused
    ErrorClass.RESTRICTED,  # likewise
})  # fmt: skip
# The `reason` of a private reply whose first call has no known result.
RETRIED = "retried"
# The `reason` of a step that another tap on the same message answers.
REPEATED = "repeated"
_PRIVATE_RETRY_WAIT = timedelta(seconds=30)
_FIRST_WAIT = timedelta(seconds=2)
_LONGEST_WAIT = timedelta(minutes=15)
_MOST_DOUBLINGS = 10


def decide(job: Job, *, follow: Follow | None = None) -> Call | Skip | JobState:
    """Return what `job` does at its position, or the state in which it ends.

    `follow` is the answer to a check made just now.
    """
    if job.position >= len(job.steps):
        return _end_without_step(job)
    name = job.name_of(job.position)
    if name == COMMENT_REPLY:
        return Call.REPLY_PUBLICLY if job.comment_id else Skip()
    if name == ASK_FOLLOW:
        if follow is None:
            return Call.CHECK_FOLLOW
        if follow is not Follow.NO:
            return Skip(follow.value)
    return Call.REPLY_PRIVATELY if job.via == PRIVATE_REPLY else Call.SEND_MESSAGE


def conclude(job: Job, state: StepState) -> JobState | None:
    """Return how the job ends after its step came to `state`; None if it continues.

    A comment opens no window, so after its one private reply the rest waits for a tap. A failed
    public reply stops nothing.
    """
    step = job.steps[job.position]
    is_last = job.position + 1 >= len(job.steps)
    if step["name"] == COMMENT_REPLY and state is not StepState.EXPIRED:
        return JobState(state) if is_last else None
    if state is not StepState.SENT:
        # In shadow there is no button to tap, so the job ends where it would wait.
        goes_on = state is StepState.SHADOW and not is_last and not waits_for_tap(job, step)
        return None if goes_on else JobState(state)
    if waits_for_tap(job, step):
        return JobState.WAITING
    return JobState.SENT if is_last else None


def waits_for_tap(job: Job, step: Mapping[str, Any]) -> bool:
    """Return whether only a tap continues the job after `step` is sent."""
    if step["name"] == ASK_FOLLOW:
        return True
    if step["name"] != OPENING_DM or step is job.steps[-1]:
        return False
    return job.via == PRIVATE_REPLY or bool(step.get("button"))


def judge(error_class: ErrorClass, call: Call) -> ErrorClass:
    """Return the class by which a failed call is handled; PERMANENT is any refusal.

    ALREADY_REPLIED means that an earlier call of ours delivered the private reply.
    """
    is_delivered = error_class is ErrorClass.ALREADY_REPLIED and call is Call.REPLY_PRIVATELY
    return error_class if is_delivered or error_class in _NO_REFUSALS else ErrorClass.PERMANENT


def can_retry_unknown(job: Job) -> bool:
    """Return whether the unknown step at the job's position may be sent once more.

    Only a private reply may, because Meta accepts one per comment and refuses the second.
    """
    is_private = job.via == PRIVATE_REPLY and job.name_of(job.position) != COMMENT_REPLY
    return is_private and not was_retried(job)


def was_retried(job: Job) -> bool:
    return job.progress.get(job.name_of(job.position), {}).get("reason") == RETRIED


def end_step(job: Job, result: StepResult, *, is_held: bool) -> Change:
    """Return the change of `job` after its step came to `result`.

    A job that continues stays leased if it `is_held`, and is queued at once otherwise.
    """
    end = conclude(job, result.state)
    name = job.name_of(job.position)
    is_past = end is None or result.state in (StepState.SENT, StepState.SHADOW)
    onward = JobState.LEASED if is_held else JobState.QUEUED
    return Change(
        state=end or onward,
        position=job.position + 1 if is_past else job.position,
        results={name: result},
        next_at=result.at if end is None and not is_held else None,
        attempts=0 if end is None else None,
        done_at=None if end is None else result.at,
        report_at=result.at,
    )


def end_repeated(job: Job, *, at: datetime) -> Change:
    """Return the end of a job whose next steps another tap on the same message sends.

    That tap also reports them to the run.
    """
    result = StepResult(state=StepState.SKIPPED, at=at, reason=REPEATED)
    names = [job.name_of(position) for position in range(job.position, len(job.steps))]
    return Change(
        state=JobState.SENT,
        position=len(job.steps),
        results=dict.fromkeys(names, result),
        done_at=at,
    )


def expire(job: Job, *, at: datetime) -> Change:
    if job.position >= len(job.steps):
        return Change(state=_end_without_step(job), position=job.position, done_at=at)
    return end_step(job, StepResult(state=StepState.EXPIRED, at=at), is_held=False)


def _end_without_step(job: Job) -> JobState:
    # A tap may have nothing left to send.
    return JobState.SENT if job.steps else JobState.SKIPPED


def retry_unknown(job: Job, *, at: datetime) -> Change:
    wait = _PRIVATE_RETRY_WAIT * (0.5 + random.random())  # noqa: S311
    result = StepResult(state=StepState.UNKNOWN, at=at, reason=RETRIED)
    return Change(
        state=JobState.QUEUED,
        position=job.position,
        results={job.name_of(job.position): result},
        next_at=min(at + wait, job.window_ends_at),
    )


def release(job: Job, *, at: datetime, next_at: datetime, attempts: int | None = None) -> Change:
    """Return the change that queues a job whose next message did not go out."""
    return Change(
        state=JobState.QUEUED,
        position=job.position,
        results=(
            {job.name_of(job.position): StepResult(state=StepState.UNKNOWN, at=at, reason=RETRIED)}
            if was_retried(job)
            else {}
        ),
        forgets=not was_retried(job),
        next_at=min(next_at, job.window_ends_at),
        attempts=attempts,
    )


def choose_wait(attempts: int) -> timedelta:
    """Return how long the next attempt waits: longer with each one, half to one and a half."""
    wait: timedelta = min(_FIRST_WAIT * 2 ** min(attempts, _MOST_DOUBLINGS), _LONGEST_WAIT)
    return wait * (0.5 + random.random())  # noqa: S311

from datetime import timedelta
from typing import Any

import pytest

from automations.instagram.graph_errors import ErrorClass
from automations.outbox import transitions
from automations.outbox.jobs import Job, JobState, StepResult, StepState
from automations.outbox.transitions import Call, Follow, Skip
from tests.support.outbox_fakes import (
    ASK,
    MAIN,
    OPENING,
    PLAIN_OPENING,
    PUBLIC,
    make_job,
    states_of,
)
from tests.support.triggers import T0

WAITING, SENT = JobState.WAITING, JobState.SENT
REPLY, SEND_MAIN = "reply publicly: comment_reply", "send a message: main_dm"
OPENED, ASKED = "reply privately: opening_dm", "reply privately: ask_follow"
SENT_OPENING = "send a message: opening_dm"
PASSED = ["check", "skip ask_follow unknown", SEND_MAIN]
FAILING = {"OUTSIDE_WINDOW", "CONFIGURATION", "PERMANENT", "CONFLICT", "NO_CONSENT"}


def make_comment(*steps: Any, position: int = 0, **fields: Any) -> Job:
    return make_job(
        send={"steps": list(steps), "via": "private_reply", "position": position}, **fields
    )


def make_dm(*steps: Any, position: int = 0, **fields: Any) -> Job:
    return make_job(send={"steps": list(steps), "position": position}, **fields)


def walk(job: Job, *, follow: Follow = Follow.UNKNOWN, state: StepState = StepState.SENT) -> Any:
    """Every call and skip until the job ends, and how it ends."""
    log: list[str] = []
    answer = None
    while True:
        decision = transitions.decide(job, follow=answer)
        if isinstance(decision, JobState):
            return log, decision
        name = job.name_of(job.position)
        if isinstance(decision, Skip):
            log.append(f"skip {name} {decision.reason}")
            job.position += 1
            answer = None
            continue
        if decision is Call.CHECK_FOLLOW:
            log.append("check")
            answer = follow
            continue
        log.append(f"{decision.value}: {name}")
        end = transitions.conclude(job, state)
        if end is not None:
            return log, end
        job.position += 1


@pytest.mark.parametrize(
    ("job", "follow", "log", "end"),
    [
        # A comment opens no window, so that an opening without a button waits for a tap too.
        (make_comment(PUBLIC, OPENING, ASK, MAIN), None, [REPLY, OPENED], WAITING),
        (make_comment(PLAIN_OPENING, MAIN), None, [OPENED], WAITING),
        (make_comment(PUBLIC, MAIN), None, [REPLY, "reply privately: main_dm"], SENT),
        (make_comment(ASK, MAIN), Follow.NO, ["check", ASKED], WAITING),
        (make_comment(OPENING), None, [OPENED], SENT),
        (make_dm(OPENING, MAIN), None, [SENT_OPENING], WAITING),
        (make_dm(PLAIN_OPENING, ASK, MAIN), Follow.UNKNOWN, [SENT_OPENING, *PASSED], SENT),
        (make_dm(ASK, MAIN), Follow.YES, ["check", "skip ask_follow follows", SEND_MAIN], SENT),
        (make_dm(ASK, MAIN), Follow.NO, ["check", "send a message: ask_follow"], WAITING),
    ],
)
def test_a_job_goes_its_way(job: Job, follow: Follow | None, log: list[str], end: JobState) -> None:
    assert walk(job, follow=follow or Follow.UNKNOWN) == (log, end)


@pytest.mark.parametrize("state", [StepState.FAILED, StepState.UNKNOWN])
def test_a_public_reply_that_is_not_out_stops_nothing(state: StepState) -> None:
    assert transitions.conclude(make_comment(PUBLIC, MAIN), state) is None
    assert transitions.conclude(make_comment(PUBLIC), state) is JobState(state.value)


def test_a_public_reply_without_a_comment_is_passed_over_silently() -> None:
    assert transitions.decide(make_dm(PUBLIC, MAIN)) == Skip()


@pytest.mark.parametrize("state", ["failed", "unknown", "expired", "shadow"])
def test_what_does_not_arrive_ends_the_job(state: str) -> None:
    assert walk(make_dm(OPENING, MAIN), state=StepState(state))[1] is JobState(state)


def test_a_shadow_goes_on_where_nobody_has_to_tap() -> None:
    job = make_dm(PLAIN_OPENING, ASK, MAIN)
    log, end = walk(job, state=StepState.SHADOW)
    assert (log[-1], end) == ("send a message: main_dm", JobState.SHADOW)


@pytest.mark.parametrize("error", ErrorClass)
def test_what_an_error_means(error: ErrorClass) -> None:
    is_failed = error.name in {*FAILING, "ALREADY_REPLIED"}
    handled = ErrorClass.PERMANENT if is_failed else error
    assert transitions.judge(error, Call.SEND_MESSAGE) is handled
    # A comment that was replied to was replied to by us.
    if error is ErrorClass.ALREADY_REPLIED:
        assert transitions.judge(error, Call.REPLY_PRIVATELY) is error


class TestUnknown:
    def test_only_a_private_reply_is_tried_once_more(self) -> None:
        job = make_comment(PUBLIC, OPENING, MAIN, position=1)
        assert transitions.can_retry_unknown(job)
        change = transitions.retry_unknown(job, at=T0)
        assert change.state is JobState.QUEUED
        assert change.next_at is not None
        assert T0 + timedelta(seconds=15) <= change.next_at <= T0 + timedelta(seconds=45)
        job.progress["opening_dm"] = change.results["opening_dm"].to_document()
        assert not transitions.can_retry_unknown(job)

    def test_the_one_retry_stays_used_when_the_job_has_to_wait_for_another_reason(self) -> None:
        job = make_comment(MAIN, progress={"main_dm": {"state": "sending", "reason": "retried"}})
        change = transitions.release(job, at=T0, next_at=T0)
        assert not change.forgets
        assert change.results["main_dm"].reason == "retried"


class TestChanges:
    def test_a_step_that_is_not_the_last_keeps_the_lease_or_is_queued(self) -> None:
        job = make_dm(PLAIN_OPENING, MAIN, attempts=3)
        result = StepResult(state=StepState.SENT, at=T0, mid="m")
        held = transitions.end_step(job, result, is_held=True)
        assert (held.state, held.position, held.attempts) == (JobState.LEASED, 1, 0)
        loose = transitions.end_step(job, result, is_held=False)
        assert (loose.state, loose.next_at, loose.done_at) == (JobState.QUEUED, T0, None)

    def test_a_window_that_ends_expires_the_step_that_was_next(self) -> None:
        change = transitions.expire(make_comment(PUBLIC, MAIN), at=T0)
        expired = {"comment_reply": "expired"}
        assert (change.state, states_of(change)) == (JobState.EXPIRED, expired)
        assert transitions.expire(make_dm(MAIN, position=1), at=T0).state is JobState.SENT

    def test_what_was_not_sent_is_forgotten_and_waits_no_longer_than_its_window(self) -> None:
        job = make_dm(MAIN)
        change = transitions.release(job, at=T0, next_at=T0 + timedelta(days=3), attempts=2)
        assert change.forgets
        assert (change.next_at, change.attempts) == (job.window_ends_at, 2)


def test_retries_come_later_and_later_with_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(attempts: int, spread: float) -> float:
        monkeypatch.setattr("random.random", lambda: spread)
        return transitions.choose_wait(attempts).total_seconds()

    assert [wait(number, 0.5) for number in range(4)] == [2, 4, 8, 16]
    assert (wait(1, 0.0), wait(1, 1.0)) == (2, 6)
    assert wait(50, 0.5) == 900

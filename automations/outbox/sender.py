"""Sends one leased job: the calls, and what is stored before and after each."""

import logging
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from automations.accounts.accounts import AccountState
from automations.instagram.graph_errors import ErrorClass, GraphError
from automations.metrics import GRAPH_ERRORS
from automations.outbox import transitions
from automations.outbox.jobs import Change, Job, JobState, StepResult, StepState
from automations.outbox.transitions import Call, Follow, Skip
from tracking.exceptions import TrackingUnavailable

if TYPE_CHECKING:
    from automations.outbox.worker import Worker

logger = logging.getLogger("automations.outbox")

# Past this share of Meta's quota, as its usage headers have it, the account waits a little.
_MOST_USAGE = 0.97
_USAGE_WAIT = timedelta(minutes=1)
_FOLLOWS = {True: Follow.YES, False: Follow.NO, None: Follow.UNKNOWN}
_PAUSES = {
    ErrorClass.TOKEN_DEAD: AccountState.TOKEN_DEAD,
    ErrorClass.RESTRICTED: AccountState.RESTRICTED,
}
_ENDS = {ErrorClass.PERMANENT: StepState.FAILED, ErrorClass.ALREADY_REPLIED: StepState.SENT}
# Meta's answer is known and must not be lost, so storing it waits longer than a request would.
_PATIENCE_SECONDS = 45.0
_WAIT_SECONDS = 0.5


class Sender:
    """Sends one job, which came with one token of its lane. `token` is None in shadow."""

    def __init__(self, job: Job, *, token: str | None, worker: "Worker") -> None:
        self._job = job
        self._access_token = token
        self._worker = worker
        self._has_lane_token = True
        self._follow: Follow | None = None

    def run(self) -> None:
        """Advance the job until it waits, ends or belongs to another worker.

        Raises TrackingUnavailable when the database is unavailable; the lease then expires.
        """
        while self._advance():
            pass
        if self._has_lane_token:
            self._worker.lanes.give_back(self._job.account_id, self._job.via)

    def _advance(self) -> bool:
        """Take one step; return whether there may be another."""
        job = self._job
        decision = transitions.decide(job, follow=self._follow)
        at = self._worker.read_clock()
        if isinstance(decision, JobState):
            change = Change(state=decision, position=job.position, done_at=at)
            self._settle(change, JobState.LEASED)
            return False
        if self._worker.is_stopping():
            return self._release(at)
        if at >= job.window_ends_at:
            return self._end_step(StepResult(state=StepState.EXPIRED, at=at), JobState.LEASED)
        if isinstance(decision, Skip):
            return self._skip(decision.reason)
        return self._check_follow() if decision is Call.CHECK_FOLLOW else self._act(decision, at)

    def _act(self, call: Call, at: datetime) -> bool:
        if not self._worker.store.claim_step(self._job, at=at):
            self._settle(transitions.end_repeated(self._job, at=at), JobState.LEASED)
            return False
        return self._send(call)

    def _skip(self, reason: str | None) -> bool:
        job, at = self._job, self._worker.read_clock()
        result = StepResult(state=StepState.SKIPPED, at=at, reason=reason)
        self._follow = None
        change = Change(
            state=JobState.LEASED,
            position=job.position + 1,
            results={job.name_of(job.position): result} if reason else {},
            report_at=at if reason else None,
        )
        return self._settle(change, JobState.LEASED)

    def _check_follow(self) -> bool:
        job = self._job
        self._follow = Follow.UNKNOWN
        if self._access_token is None or job.is_person_unknown:
            return True
        now = self._worker.now
        is_expected = job.read_at is not None
        ready_at = self._worker.lanes.take_read(job.account_id, is_expected=is_expected, now=now)
        if ready_at is not None:
            return self._release(ready_at, read_at=ready_at)
        try:
            answer = self._worker.graph.is_following(job.user_id, token=self._access_token)
        except Exception as error:  # noqa: BLE001 - classified by judge
            return self._after_failed_check(_read_error(error))
        self._follow = _FOLLOWS[answer]
        return True

    def _after_failed_check(self, error: GraphError) -> bool:
        # A read may be repeated; its other failures mean that the answer is unknown.
        verdict = transitions.judge(error.classification, Call.CHECK_FOLLOW)
        if verdict in (ErrorClass.RATE, ErrorClass.NOT_SENT) or verdict in _PAUSES:
            return self._put_off(error, verdict, JobState.LEASED)
        return True

    def _send(self, call: Call) -> bool:
        job = self._job
        at = self._worker.read_clock()
        try:
            message = self._worker.compose(job, job.steps[job.position])
        except Exception as error:
            logger.exception("❌ A message could not be built: %s", type(error).__name__)
            result = StepResult(state=StepState.FAILED, at=at, reason="content")
            return self._end_step(result, JobState.LEASED)
        if self._access_token is None:
            # Shadow keeps the lane's pace too, so that it shows what sending would do.
            self._has_lane_token = False
            return self._end_step(StepResult(state=StepState.SHADOW, at=at), JobState.LEASED)
        now = self._worker.now
        needs_token = call is not Call.REPLY_PUBLICLY  # it uses the private reply's token
        if needs_token and not self._has_lane_token:
            ready_at = self._worker.lanes.take(job.account_id, job.via, now=now)
            if ready_at is not None:
                return self._release(ready_at)
            self._has_lane_token = True
        if not self._worker.store.begin_sending(job, now=now):
            return False
        self._has_lane_token = self._has_lane_token and not needs_token
        try:
            mid = self._call(call, message, self._access_token)
        except Exception as error:  # noqa: BLE001 - classified by judge
            return self._after_failed_send(call, _read_error(error))
        result = StepResult(state=StepState.SENT, at=self._worker.read_clock(), mid=mid)
        # Slow down before Meta refuses calls.
        if self._worker.graph.usage(job.account_id) >= _MOST_USAGE:
            self._worker.lanes.slow_down(job.account_id, wait=_USAGE_WAIT, now=self._worker.now)
        return self._end_step(result, JobState.SENDING, JobState.UNKNOWN)

    def _call(self, call: Call, message: Any, token: str) -> str | None:
        job, graph = self._job, self._worker.graph
        if call is Call.REPLY_PUBLICLY:
            return graph.reply_publicly(job.comment_id or "", message, token=token)
        if call is Call.REPLY_PRIVATELY:
            return graph.reply_privately(job.account_id, job.comment_id or "", message, token=token)
        return graph.send_message(job.account_id, job.user_id, message, token=token)

    def _after_failed_send(self, call: Call, error: GraphError) -> bool:
        job = self._job
        at = self._worker.read_clock()
        verdict = transitions.judge(error.classification, call)
        result = StepResult(
            state=StepState.FAILED,
            at=at,
            code=error.code,
            subcode=error.subcode,
            reason=error.classification.name.lower(),
        )
        if verdict in _ENDS:
            result = msgspec.structs.replace(result, state=_ENDS[verdict])
            return self._end_step(result, JobState.SENDING, JobState.UNKNOWN)
        if verdict is not ErrorClass.UNKNOWN:
            return self._put_off(error, verdict, JobState.SENDING)
        if transitions.can_retry_unknown(job):
            self._settle(transitions.retry_unknown(job, at=at), JobState.SENDING)
            return False
        result = msgspec.structs.replace(result, state=StepState.UNKNOWN)
        return self._end_step(result, JobState.SENDING)

    def _put_off(self, error: GraphError, verdict: ErrorClass, held: JobState) -> bool:
        """Queue the job again, which is safe because nothing was sent."""
        job = self._job
        at = self._worker.read_clock()
        attempts, next_at = None, at
        if verdict is ErrorClass.RATE:
            at_least = timedelta(seconds=error.retry_after or 0)
            now = self._worker.now
            next_at = self._worker.lanes.back_off(job.account_id, at_least=at_least, now=now)
            logger.warning("⚠️ Account %s is over Meta's rate limit and waits", job.account_id)
        elif verdict in _PAUSES:
            self._worker.pause(job.account_id, _PAUSES[verdict], f"error {error.code}")
        else:
            attempts = job.attempts + 1
            next_at = at + transitions.choose_wait(job.attempts)
        self._settle(transitions.release(job, at=at, next_at=next_at, attempts=attempts), held)
        return False

    def _release(self, next_at: datetime, *, read_at: datetime | None = None) -> bool:
        at = self._worker.read_clock()
        change = transitions.release(self._job, at=at, next_at=next_at)
        self._settle(msgspec.structs.replace(change, read_at=read_at), JobState.LEASED)
        return False

    def _end_step(self, result: StepResult, *expected: JobState) -> bool:
        """Store the step's result; return whether the job continues under this lease."""
        job = self._job
        change = transitions.end_step(job, result, is_held=True)
        is_unknown = result.state is StepState.UNKNOWN
        if change.state is not JobState.LEASED:
            if self._settle(change, *expected, without_echo=is_unknown):
                return False
            echo = self._worker.store.find_echo(job) if is_unknown else None
            if echo is not None:
                sent = StepResult(state=StepState.SENT, at=result.at, mid=echo)
                return self._end_step(sent, *expected)
            return False
        if self._settle(change, expected[0]):
            return True
        if JobState.UNKNOWN in expected:
            # The lease expired and the call counted as interrupted; its answer is still right.
            self._settle(transitions.end_step(job, result, is_held=False), JobState.UNKNOWN)
        return False

    def _settle(self, change: Change, *expected: JobState, without_echo: bool = False) -> bool:
        """Settle the held job, with retries; return whether it was ours.

        Raises TrackingUnavailable when the database stays unavailable; the lease then expires.
        """
        job = self._job
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                is_ours = self._worker.store.settle(
                    job, change, expected=expected, without_echo=without_echo
                )
                break
            except TrackingUnavailable:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_WAIT_SECONDS)
        if is_ours:
            self._worker.reporter.add(job, change)
            for name, result in change.results.items():
                job.progress[name] = result.to_document()
            job.position = change.position
            job.attempts = job.attempts if change.attempts is None else change.attempts
        return is_ours


def _read_error(error: Exception) -> GraphError:
    # Any other exception was raised between our call and Meta's answer.
    found = error if isinstance(error, GraphError) else GraphError(ErrorClass.UNKNOWN)
    GRAPH_ERRORS.labels(found.classification.name.lower()).inc()
    return found

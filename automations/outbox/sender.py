"""Sends one leased job: the calls, and what is stored before and after each."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

import msgspec

from automations.outbox import transitions
from automations.outbox.jobs import Change, Job, JobState, StepResult, StepState
from automations.outbox.lanes import LaneStore
from automations.outbox.ports import SendContext, make_call, read_class
from automations.outbox.recovery import settle_patiently
from automations.outbox.store import OutboxStore
from automations.outbox.transitions import Act, Call, Done, Follow, Skip, Verdict

logger = logging.getLogger("automations.outbox")

# Past this share of Meta's quota, as its usage headers have it, the account waits a little.
_MOST_USAGE = 0.97
_USAGE_WAIT = timedelta(minutes=1)
_FOLLOWS = {True: Follow.YES, False: Follow.NO, None: Follow.UNKNOWN}
_PAUSES = {Verdict.TOKEN_DEAD: "token_dead", Verdict.RESTRICTED: "restricted"}


class Sender:
    """Sends one job, which came with one token of its lane. `token` is None in shadow."""

    def __init__(
        self,
        job: Job,
        *,
        token: str | None,
        store: OutboxStore,
        lanes: LaneStore,
        context: SendContext,
    ) -> None:
        self._job = job
        self._access_token = token
        self._store = store
        self._lanes = lanes
        self._context = context
        self._has_lane_token = True
        self._follow: Follow | None = None

    def run(self) -> None:
        """Advance the job until it waits, ends or belongs to another worker.

        Raises TrackingUnavailable when the database is unavailable; the lease then expires.
        """
        while self._advance():
            pass
        if self._has_lane_token:
            self._lanes.give_back(self._job.account_id, self._job.via)

    def _advance(self) -> bool:
        """Take one step; return whether there may be another."""
        job = self._job
        decision = transitions.decide(job, follow=self._follow)
        at = self._context.read_clock()
        if isinstance(decision, Done):
            change = Change(state=decision.state, position=job.position, done_at=at)
            self._settle(change, JobState.LEASED)
            return False
        if self._context.is_stopping():
            return self._release(at)
        if at >= job.window_ends_at:
            return self._end_step(StepResult(state=StepState.EXPIRED, at=at), JobState.LEASED)
        if isinstance(decision, Skip):
            return self._skip(decision)
        return self._act(decision)

    def _act(self, act: Act) -> bool:
        if act.call is Call.CHECK_FOLLOW:
            return self._check_follow()
        at = self._context.read_clock()
        if not self._store.claim_step(self._job, at=at):
            self._settle(transitions.end_repeated(self._job, at=at), JobState.LEASED)
            return False
        return self._send(act)

    def _skip(self, skip: Skip) -> bool:
        at = self._context.read_clock()
        result = StepResult(state=StepState.SKIPPED, at=at, reason=skip.reason)
        self._follow = None
        return self._settle(
            Change(
                state=JobState.LEASED,
                position=self._job.position + 1,
                results={skip.step: result} if skip.reason else {},
                report_at=at if skip.reason else None,
            ),
            JobState.LEASED,
        )

    def _check_follow(self) -> bool:
        job = self._job
        self._follow = Follow.UNKNOWN
        if self._access_token is None or job.is_person_unknown:
            return True
        now = self._context.now()
        is_expected = job.read_at is not None
        ready_at = self._lanes.take_read(job.account_id, is_expected=is_expected, now=now)
        if ready_at is not None:
            return self._release(ready_at, read_at=ready_at)
        try:
            answer = self._context.graph.is_following(job.user_id, token=self._access_token)
        except Exception as error:  # noqa: BLE001 - classified by judge
            return self._after_failed_check(error)
        self._follow = _FOLLOWS[answer]
        return True

    def _after_failed_check(self, error: Exception) -> bool:
        # A read may be repeated; its other failures mean that the answer is unknown.
        verdict = transitions.judge(read_class(error), Call.CHECK_FOLLOW)
        if verdict in (Verdict.RATE, Verdict.NOT_SENT) or verdict in _PAUSES:
            return self._put_off(error, verdict, JobState.LEASED)
        return True

    def _send(self, act: Act) -> bool:
        job = self._job
        at = self._context.read_clock()
        try:
            message = self._context.compose(job, act.step)
        except Exception as error:
            logger.exception("❌ A message could not be built: %s", type(error).__name__)
            result = StepResult(state=StepState.FAILED, at=at, reason="content")
            return self._end_step(result, JobState.LEASED)
        if self._access_token is None:
            # Shadow keeps the lane's pace too, so that it shows what sending would do.
            self._has_lane_token = False
            return self._end_step(StepResult(state=StepState.SHADOW, at=at), JobState.LEASED)
        now = self._context.now()
        needs_token = act.call is not Call.REPLY_PUBLICLY  # it uses the private reply's token
        if needs_token and not self._has_lane_token:
            ready_at = self._lanes.take(job.account_id, job.via, now=now)
            if ready_at is not None:
                return self._release(ready_at)
            self._has_lane_token = True
        if not self._store.begin_sending(job, now=now):
            return False
        self._has_lane_token = self._has_lane_token and not needs_token
        try:
            sent = make_call(self._context.graph, job, act, message, token=self._access_token)
        except Exception as error:  # noqa: BLE001 - classified by judge
            return self._after_failed_send(act, error)
        result = StepResult(
            state=StepState.SENT,
            at=self._context.read_clock(),
            mid=getattr(sent, "message_id", None),
        )
        self._mind_usage()
        return self._end_step(result, JobState.SENDING, JobState.UNKNOWN)

    def _after_failed_send(self, act: Act, error: Exception) -> bool:
        job = self._job
        at = self._context.read_clock()
        name = read_class(error)
        verdict = transitions.judge(name, act.call)
        code, subcode = getattr(error, "code", None), getattr(error, "subcode", None)
        result = StepResult(
            state=StepState.FAILED, at=at, code=code, subcode=subcode, reason=name.lower()
        )
        if verdict is Verdict.FAILED:
            return self._end_step(result, JobState.SENDING, JobState.UNKNOWN)
        if verdict is Verdict.DELIVERED:
            result = msgspec.structs.replace(result, state=StepState.SENT)
            return self._end_step(result, JobState.SENDING, JobState.UNKNOWN)
        if verdict is not Verdict.UNKNOWN:
            return self._put_off(error, verdict, JobState.SENDING)
        if transitions.can_retry_unknown(job):
            self._settle(transitions.retry_unknown(job, at=at), JobState.SENDING)
            return False
        result = msgspec.structs.replace(result, state=StepState.UNKNOWN)
        return self._end_step(result, JobState.SENDING)

    def _put_off(self, error: Exception, verdict: Verdict, held: JobState) -> bool:
        """Queue the job again, which is safe because nothing was sent."""
        job = self._job
        at = self._context.read_clock()
        attempts = None
        next_at = at
        if verdict is Verdict.RATE:
            retry_after = getattr(error, "retry_after", None) or 0
            at_least = timedelta(seconds=float(retry_after))
            now = self._context.now()
            next_at = self._lanes.back_off(job.account_id, at_least=at_least, now=now)
            logger.warning("⚠️ Account %s is over Meta's rate limit and waits", job.account_id)
        elif verdict in _PAUSES:
            code = getattr(error, "code", None)
            self._context.pause(job.account_id, _PAUSES[verdict], f"error {code}")
        else:
            attempts = job.attempts + 1
            next_at = transitions.find_retry_time(
                at, attempts=job.attempts, window_ends_at=job.window_ends_at
            )
        self._settle(transitions.release(job, at=at, next_at=next_at, attempts=attempts), held)
        return False

    def _release(self, next_at: datetime, *, read_at: datetime | None = None) -> bool:
        at = self._context.read_clock()
        change = transitions.release(self._job, at=at, next_at=next_at)
        self._settle(msgspec.structs.replace(change, read_at=read_at), JobState.LEASED)
        return False

    def _mind_usage(self) -> None:
        """Slow down before Meta refuses calls; its headers say how much quota is used."""
        usage = getattr(self._context.graph, "usage", None)
        if usage is not None and usage(self._job.account_id) >= _MOST_USAGE:
            now = self._context.now()
            self._lanes.slow_down(self._job.account_id, wait=_USAGE_WAIT, now=now)

    def _end_step(self, result: StepResult, *expected: JobState) -> bool:
        """Store the step's result; return whether the job continues under this lease."""
        job = self._job
        change = transitions.end_step(job, result, is_held=True)
        is_unknown = result.state is StepState.UNKNOWN
        if change.state is not JobState.LEASED:
            if self._settle(change, *expected, without_echo=is_unknown):
                return False
            echo = self._store.find_echo(job) if is_unknown else None
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
        job = self._job
        is_ours = settle_patiently(
            self._store, job, change, expected=expected, without_echo=without_echo
        )
        if is_ours:
            if change.report_at is not None:
                self._context.report(job, change)
            for name, result in change.results.items():
                job.progress[name] = result.to_document()
            job.position = change.position
            job.attempts = job.attempts if change.attempts is None else change.attempts
        return is_ours

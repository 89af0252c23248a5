"""What became of each step, told to the runs: in batches, again if it failed, never in the way."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import msgspec

from automations.metrics import STEPS
from automations.outbox.jobs import Change, Job, StepResult, StepState
from automations.outbox.store import OutboxStore
from automations.outbox.transitions import REPEATED
from automations.rules.steps import MAIN_DM
from tracking.exceptions import TrackingUnavailable
from tracking.rollups.outcomes import StepOutcome

logger = logging.getLogger("automations.outbox")

# By now the worker that should have told is gone, or could not.
_LATE = timedelta(seconds=60)
# What is sent before it is counted is told as soon as it is, mostly within half a second.
_PATIENCE = timedelta(seconds=5)
_LONGEST_WAIT = timedelta(hours=1)
_BATCH = 500
_MOST_LATE_BATCHES = 20


# Stores outcomes, repeated ones once. Raises TrackingUnavailable.
Record = Callable[[Sequence[StepOutcome]], None]
# A job, the results by step to report to its run, and the `reportAt` that they end.
_Owed = tuple[Job, Mapping[str, StepResult], datetime]


class Reporter:
    """Collects results and passes them on. Thread-safe.

    Tracking that fails never stops a message (I7): what it does not take stays marked on the job
    by `reportAt`, and is told again later by any worker. So is what was sent for a trigger that is
    not counted yet: it has no run to tell.
    """

    def __init__(self, store: OutboxStore, record: Record) -> None:
        self._store = store
        self._record = record
        self._lock = threading.Lock()
        self._waiting: list[_Owed] = []

    def add(self, job: Job, change: Change) -> None:
        if change.report_at is not None:
            for result in change.results.values():
                STEPS.labels(result.state.value).inc()
            with self._lock:
                self._waiting.append((job, change.results, change.report_at))

    def flush(self, *, at: datetime) -> None:
        """Tell what is waiting now. Never raises."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), _BATCH):
            batch = waiting[start : start + _BATCH]
            uncounted = self._tell(batch)
            kept = [one for one in uncounted or () if at - one[2] < _PATIENCE]
            for job, _, up_to in batch if uncounted is None else uncounted:
                # Left to `reportAt`. The job's next step takes it over and reports this one too.
                job.report_at = up_to
            with self._lock:
                self._waiting += kept

    def retry_unreported(self, *, at: datetime) -> None:
        """Tell what was left untold for a minute. Never raises."""
        since = at - _LATE
        with suppress(TrackingUnavailable):
            for _ in range(_MOST_LATE_BATCHES):
                late = self._store.list_unreported(before=since)
                uncounted = self._tell(
                    [(job, list_results(job), job.report_at or at) for job in late]
                )
                if not late or uncounted is None:
                    break
                waits = [(job, up_to, since + _find_wait(job, at)) for job, _, up_to in uncounted]
                self._store.move_reports(waits)

    def _tell(self, owed: Sequence[_Owed]) -> list[_Owed] | None:
        """Tell runs what became of their steps; return what has no run yet, None if it failed."""
        if not owed:
            return []
        try:
            self._store.find_outcomes([job for job, *_ in owed])
            counted = [one for one in owed if one[0].outcome is not None]
            if counted:
                self._record([
                    _build_outcome(job, step, result)
                    for job, told, _ in counted
                    for step, result in _add_owed(job, told).items()
                ])  # fmt: skip
                self._store.move_reports([(job, at, None) for job, _, at in counted])
        except Exception as error:  # noqa: BLE001 - whatever it is, messages go on
            name = type(error).__name__
            logger.error("❌ [TRACKING] Outcomes of %d jobs wait: %s", len(owed), name)
            return None
        return [one for one in owed if one[0].outcome is None]


def _add_owed(job: Job, told: Mapping[str, StepResult]) -> Mapping[str, StepResult]:
    """Return the results, and earlier ones that may not have been reported."""
    return told if job.report_at is None else {**list_results(job), **told}


def _find_wait(job: Job, at: datetime) -> timedelta:
    # The longer a job waits, the less often it is looked at: counting may be off for a day.
    return min(max(at - job.created_at, _LATE), _LONGEST_WAIT)


def list_results(job: Job) -> dict[str, StepResult]:
    """Return every result that is stored in the job, is final, and is its own to tell."""
    results = {name: msgspec.convert(one, StepResult) for name, one in list(job.progress.items())}
    return {
        name: result
        for name, result in results.items()
        if result.state is not StepState.SENDING and result.reason != REPEATED
    }


def _build_outcome(job: Job, step: str, result: StepResult) -> StepOutcome:
    return StepOutcome(
        run_id=job.run_id,
        automation_id=job.automation_id,
        step=step,
        state=result.state.value,
        at=result.at,
        code=result.code,
        subcode=result.subcode,
        reason=result.reason,
        is_completed=step == MAIN_DM and result.state is StepState.SENT,
    )

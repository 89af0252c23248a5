"""What became of each step, told to the runs: in batches, again if it failed, never in the way."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import msgspec

from automations.metrics import STEPS
from automations.outbox.jobs import Change, Job, StepResult, StepState
from automations.outbox.store import OutboxStore
from automations.outbox.transitions import REPEATED
from tracking.exceptions import TrackingUnavailable

logger = logging.getLogger("automations.outbox")

# By now the worker that should have told is gone, or could not.
_LATE = timedelta(seconds=60)
_FINAL = frozenset(state for state in StepState if state is not StepState.SENDING)
_BATCH = 500


class StepReport(msgspec.Struct, frozen=True):
    """One thing to tell a run."""

    job: Job
    step: str
    result: StepResult


# Stores them; told twice, it stores them once.
Record = Callable[[Sequence[StepReport]], None]


class Reporter:
    """Collects results and passes them on. Thread-safe.

    Tracking that fails never stops a message (I7): what it does not take stays marked on the job
    by `reportAt`, and is told again later by any worker.
    """

    def __init__(self, store: OutboxStore, record: Record) -> None:
        self._store = store
        self._record = record
        self._lock = threading.Lock()
        self._waiting: list[tuple[list[StepReport], str, datetime]] = []

    def add(self, job: Job, change: Change) -> None:
        """Tell the job's run about a change later."""
        if change.report_at is not None:
            for result in change.results.values():
                STEPS.labels(result.state.value).inc()
            told = [StepReport(job, name, result) for name, result in change.results.items()]
            if job.report_at is not None:  # somebody else owed it the earlier ones
                told = list_results(job) + told
            with self._lock:
                self._waiting.append((told, job.id, change.report_at))

    def flush(self) -> int:
        """Tell what is waiting now; return how many jobs that was about. Never raises."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), _BATCH):
            batch = waiting[start : start + _BATCH]
            told = [one for part, _, _ in batch for one in part]
            self._tell(told, [(job_id, at) for _, job_id, at in batch])
        return len(waiting)

    def retry_unreported(self, *, at: datetime) -> int:
        """Tell what was left untold for a minute; return of how many jobs. Never raises."""
        try:
            late = self._store.list_unreported(before=at - _LATE)
        except TrackingUnavailable:
            return 0
        told = [one for job, _ in late for one in list_results(job)]
        self._tell(told, [(job.id, at) for job, at in late])
        return len(late)

    def _tell(self, told: Sequence[StepReport], reported: Sequence[tuple[str, datetime]]) -> None:
        if not reported:
            return
        try:
            self._record(told)
            self._store.clear_reports(reported)
        except Exception as error:  # noqa: BLE001 - whatever it is, messages go on
            logger.error("❌ [TRACKING] Outcomes of %d jobs wait: %s", len(reported),
                         type(error).__name__)  # fmt: skip


def list_results(job: Job) -> list[StepReport]:
    """Return every result that is stored in the job, is final, and is its own to tell."""
    told = []
    for name, document in job.progress.items():
        fields = {key: value for key, value in document.items() if key in _RESULT_FIELDS}
        state = StepState(fields.pop("state"))
        if state in _FINAL and document.get("reason") != REPEATED:
            told.append(StepReport(job, name, StepResult(state=state, **fields)))
    return told


_RESULT_FIELDS = frozenset(StepResult.__struct_fields__)

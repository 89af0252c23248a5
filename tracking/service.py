"""The front door: what other engines and the webhook call. Plain values in, plain values out."""

import atexit
import logging
import os
import threading
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

from tracking.clock import read_now
from tracking.conf import conf
from tracking.counting.committer import DEADLINE_SECONDS, Committer
from tracking.counting.flush import Flusher
from tracking.counting.switch import SwitchState, is_stats_switched_on, read_switch
from tracking.exceptions import TrackingError
from tracking.maintenance.replay import Replayer, ReplayReport
from tracking.mongo import client as mongo
from tracking.queries import recent_hours
from tracking.queries.stats import RunSummary, StatsStore
from tracking.rollups.account_hours import AccountHour, AccountHours, AccountHourStore
from tracking.rollups.folding import Folder
from tracking.rollups.outcome_store import OutcomeStore
from tracking.rollups.outcomes import StepOutcome
from tracking.runs import Outcome, Trigger

logger = logging.getLogger("tracking")

_SECONDS = 5.0


def record_triggers(
    triggers: Sequence[Trigger], *, seconds: float = DEADLINE_SECONDS
) -> list[Outcome]:
    """Record a whole delivery's triggers and return the outcome of each, in order.

    When it returns, they are committed by a majority and journaled. Raises TrackingUnavailable
    when that took longer than `seconds`: record the same triggers again, nothing counts twice.
    """
    if not triggers:
        return []
    outcomes = _get_committer().submit(triggers, seconds=seconds)
    log_outcomes(triggers, outcomes)
    return outcomes


def track_automation_run(
    automation_id: Any,
    workspace_id: str,
    trigger_type: str,
    user_id: str,
    metadata: Mapping[str, Any] | None = None,
    *,
    event_id: str | None = None,
) -> bool:
    """Count one run for another engine; never raises.

    Returns True if the run was counted; False if it was a duplicate, tracking is off, or it failed:
    the log says which. Each call is an event of its own unless `event_id` names it; an event of a
    workspace starts at most one automation, so a known `event_id` is not counted again.
    """
    try:
        trigger = Trigger(
            account_id=str(workspace_id),
            kind="call",
            event_id=uuid4().hex if event_id is None else str(event_id),
            automation_key=_get_committer().find_key(automation_id),
            automation_id=str(automation_id),
            workspace_id=str(workspace_id),
            trigger_type=str(trigger_type),
            user_id=str(user_id),
            arrived_at=read_now(),
            metadata=dict(metadata or {}),
        )
        [outcome] = record_triggers([trigger])
    except TrackingError as error:
        logger.error("❌ [TRACKING] Run not tracked: %s", error)
        return False
    except Exception as error:
        # The caller's automation must go on, whatever it passed and whatever breaks here.
        logger.exception("❌ [TRACKING] Run not tracked: %s", type(error).__name__)
        return False
    if outcome is Outcome.UNTRACKED:
        logger.warning("⚠️ [TRACKING] Tracking is off or failing: run kept as untracked")
    elif outcome is Outcome.REDELIVERED:
        logger.info("ℹ️ [TRACKING] Event was recorded before, nothing counted")
    return outcome is Outcome.COUNTED


def summarize_runs(
    automations: Sequence[Mapping[str, Any]], *, at: datetime
) -> dict[str, RunSummary]:
    """Return totals and the windows that end at `at`, by automation id.

    `automations` are documents with `_id`, `totalRuns` and `lastRunAt`. All figures are of one
    snapshot; the windows equal a count of the runs with `createdAt >= at - window`.
    """
    return StatsStore(mongo.get_database()).summarize(automations, at=at)


def list_recent_hours(
    automation_ids: Collection[str], *, seconds: float = _SECONDS
) -> dict[str, dict[int, int]]:
    """Return runs by hour (its number since 1970, UTC) of the last eight days, by automation id.

    Raises TrackingUnavailable.
    """
    return recent_hours.list_recent_hours(mongo.get_database(), automation_ids, seconds=seconds)


def get_totals(
    automations: Sequence[Mapping[str, Any]],
) -> dict[str, tuple[int, datetime | None]]:
    """Return (total runs, newest run) by automation id, for answers without statistics."""
    return StatsStore(mongo.get_database()).list_totals(automations)


def is_stats_enabled() -> bool:
    """Return whether statistics are shown: the environment and the stored switch must say so."""
    return conf.is_stats_enabled and is_stats_switched_on(mongo.get_database())


def record_step_outcomes(outcomes: Sequence[StepOutcome], *, seconds: float = _SECONDS) -> None:
    """Store what became of runs' steps: on the run, and in the hour in which the run was counted.

    Told again, or in another order, they come to the same. Those of no run (`run_id` None), or of
    a run that is gone, are left out. Raises TrackingUnavailable: tell them all again.
    """
    of_runs = [outcome for outcome in outcomes if outcome.run_id is not None]
    OutcomeStore(mongo.get_database()).record_outcomes(of_runs, seconds=seconds)


def summarize_outcomes(
    automation_ids: Collection[str],
    from_: datetime,
    to: datetime,
    *,
    seconds: float = _SECONDS,
) -> dict[str, dict[str, int]]:
    """Return `{automation id: {"<step>.<state>": runs, ..., "completed": runs}}`, without zeros.

    Of the runs counted in the hours that overlap [from_, to): whole hours, UTC. Raises
    TrackingUnavailable.
    """
    store = OutcomeStore(mongo.get_database())
    return store.summarize_outcomes(automation_ids, since=from_, until=to, seconds=seconds)


def note_ignored(
    ignored: Sequence[Mapping[str, Mapping[Any, int]]],
    *,
    redelivered: Mapping[str, int],
    at: datetime,
) -> None:
    """Note what became no trigger at `at`: `{account id: {reason: events}}`, and redeliveries.

    Best effort, written by a thread within about a second; never raises, never waits.
    """
    try:
        if redelivered or any(ignored):
            hours = _get_account_hours()
            for by_account in ignored:
                for account_id, reasons in by_account.items():
                    hours.add(account_id, at=at, ignored=reasons)
            for account_id, count in redelivered.items():
                hours.add(account_id, at=at, redelivered=count)
    except Exception as error:  # noqa: BLE001 - a delivery must not fail for these
        logger.warning("⚠️ [TRACKING] Ignored events not noted: %s", type(error).__name__)


def summarize_ignored(
    account_id: str, from_: datetime, to: datetime, *, seconds: float = _SECONDS
) -> AccountHour:
    """Return what an account ignored in the hours that overlap [from_, to), best effort.

    Raises TrackingUnavailable.
    """
    store = AccountHourStore(mongo.get_database())
    return store.summarize_account(account_id, since=from_, until=to, seconds=seconds)


def replay_untracked() -> ReplayReport:
    """Count the untracked triggers that wait, each unless a run of its pair is near it.

    While tracking is off nothing is counted: `tracking on` does it then, in the order of arrival.
    """
    database = mongo.get_database()
    if not conf.is_enabled or read_switch(database) is not SwitchState.ON:
        return ReplayReport()
    return Replayer(database, window=conf.dedup_window).replay_all(now=datetime.now(UTC))


def log_outcomes(triggers: Sequence[Trigger], outcomes: Sequence[Outcome]) -> None:
    """Write the log line that each outcome has."""
    if not logger.isEnabledFor(logging.INFO):
        return
    for trigger, outcome in zip(triggers, outcomes, strict=True):
        if outcome is Outcome.COUNTED:
            logger.info(
                "✅ [TRACKING] Automation run tracked: %s (%s)",
                trigger.automation_id, trigger.trigger_type,
            )  # fmt: skip
        elif outcome is Outcome.DUPLICATE:
            logger.info("ℹ️ [TRACKING] Duplicate run skipped for user %s", trigger.user_id)


def close() -> None:
    """Flush what is waiting and stop the process's writer; the next call starts a new one."""
    with _process.lock:
        committer, _process.committer = _process.committer, None
    if committer is not None:
        committer.close()
    _close_account_hours()


def _close_account_hours() -> None:
    with _process.lock:
        hours, _process.hours = _process.hours, None
    if hours is not None:
        hours.close()


class _Process:
    """What belongs to one process: threads, sockets and sessions do not survive a fork."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.client: Any = None
        self.committer: Committer | None = None
        self.hours_client: Any = None
        self.hours: AccountHours | None = None


def _get_committer() -> Committer:
    # A new client, as when the embedded server has moved to another port, has a new committer.
    client = mongo.get_client()
    if _process.committer is None or _process.client is not client:
        with _process.lock:
            if _process.committer is None or _process.client is not client:
                if _process.committer is not None:
                    _process.committer.abandon()
                database = mongo.get_database()
                flusher = Flusher(
                    database,
                    window=conf.dedup_window,
                    is_enabled=conf.is_enabled,
                    claim_keys=conf.claim_keys,
                )
                _process.client = client
                folder = Folder(database, on_session=flusher.lease.name_session)
                _process.committer = Committer(flusher, folder=folder, on_late=log_outcomes)
    return _process.committer


def _get_account_hours() -> AccountHours:
    client = mongo.get_client()
    if _process.hours is None or _process.hours_client is not client:
        with _process.lock:
            if _process.hours is None or _process.hours_client is not client:
                if _process.hours is not None:
                    _process.hours.abandon()
                store = AccountHourStore(mongo.get_database())
                _process.hours_client = client
                _process.hours = AccountHours(partial(store.add_account_hours, seconds=2.0))
    return _process.hours


_process = _Process()
# Of this process, whichever it is: what a parent had pending is its own to write.
atexit.register(_close_account_hours)
# The parent keeps its committer; the child starts its own.
os.register_at_fork(after_in_child=_process.__init__)  # type: ignore[misc]

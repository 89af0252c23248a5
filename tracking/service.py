"""The front door: what other engines and the webhook call. Plain values in, plain values out."""

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from tracking.clock import read_now
from tracking.conf import conf
from tracking.counting import partitions
from tracking.counting.counter import Counter
from tracking.counting.storage import DEADLINE_SECONDS, Storage
from tracking.counting.switch import SwitchState, find_wait_seconds, read_switch_of_late
from tracking.exceptions import TrackingError
from tracking.ids import build_trigger_id, list_stored_forms, name_id
from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded
from tracking.queries import stats
from tracking.queries.stats import RunSummaries, StatsStore
from tracking.rollups.account_hours import AccountHours, AccountHourStore
from tracking.rollups.outcome_store import OutcomeStore
from tracking.rollups.outcomes import StepOutcome
from tracking.rollups.totals import TotalStore
from tracking.runs import Outcome, Trigger

logger = logging.getLogger("tracking")

_SECONDS = 5.0
# How long a caller that wants to know the outcome waits for the counter.
_OUTCOME_SECONDS = 3.0


def record_triggers(
    triggers: Sequence[Trigger], *, seconds: float = DEADLINE_SECONDS
) -> list[Outcome]:
    """Store triggers to be counted; return STORED, REDELIVERED or REJECTED for each, in order.

    When it returns, they are committed by a majority and journaled; they are counted soon after,
    in the order of their arrival. Raises TrackingUnavailable when that took longer than `seconds`:
    record the same triggers again, nothing counts twice.
    """
    if not triggers:
        return []
    process = _get_process()
    outcomes = process.storage.store(triggers, seconds=seconds)
    process.counter.wake()
    return outcomes


def wait_for_outcomes(
    triggers: Sequence[Trigger], *, seconds: float = _OUTCOME_SECONDS
) -> list[Outcome | None]:
    """Wait until stored triggers are counted; return the outcome of each, None while it waits."""
    ids = [build_trigger_id(one.account_id, one.kind, one.event_id) for one in triggers]
    accounts = list({one.account_id for one in triggers})
    query = {
        "_id": {"$in": ids}, "accountId": {"$in": accounts}, "outcome": {"$exists": True},
    }  # fmt: skip
    deadline = time.monotonic() + seconds
    pause = 0.005
    stored = mongo.get_database()["automation_triggers"]
    while True:
        with bounded(_SECONDS):
            found = {one["_id"]: one["outcome"] for one in stored.find(query, {"outcome": 1})}
        if len(found) == len(set(ids)) or time.monotonic() >= deadline:
            return [Outcome(found[one]) if one in found else None for one in ids]
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def track_automation_run(
    automation_id: Any,
    workspace_id: str,
    trigger_type: str,
    user_id: str,
    metadata: Mapping[str, Any] | None = None,
    *,
    event_id: str | None = None,
) -> bool:
    """Count one run for another engine, and wait up to 3 s for its outcome; never raises.

    Returns True if the run was counted; False if it was a duplicate, if it waits because counting
    is off or behind, or if it failed: the log says which. Each call is an event of its own unless
    `event_id` names it; an event of a workspace starts at most one automation, so a known
    `event_id` is not counted again.
    """
    try:
        key = _get_process().find_key(automation_id)
        trigger = Trigger(
            account_id=str(workspace_id),
            kind="call",
            event_id=uuid4().hex if event_id is None else str(event_id),
            automation_key=key,
            automation_id=name_id(key),
            workspace_id=str(workspace_id),
            trigger_type=str(trigger_type),
            user_id=str(user_id),
            arrived_at=read_now(),
            metadata=dict(metadata or {}),
        )
        [stored] = record_triggers([trigger])
        if stored is Outcome.REDELIVERED:
            logger.info("ℹ️ [TRACKING] Event was recorded before, nothing counted")
        if stored is not Outcome.STORED:
            return False
        [outcome] = wait_for_outcomes([trigger])
    except TrackingError as error:
        logger.error("❌ [TRACKING] Run not tracked: %s", error)
        return False
    except Exception as error:
        # The caller's automation must go on, whatever it passed and whatever breaks here.
        logger.exception("❌ [TRACKING] Run not tracked: %s", type(error).__name__)
        return False
    if outcome is None:
        logger.warning("⚠️ [TRACKING] Run stored, not counted yet")
    return outcome is Outcome.COUNTED


def summarize_runs(
    automations: Sequence[Mapping[str, Any]], *, at: datetime, has_windows: bool = True
) -> RunSummaries:
    """Return totals and the windows that end at `at`, by automation id.

    `automations` are documents with `_id`, `totalRuns` and `lastRunAt`. Unless counting is off, it
    waits up to 250 ms until what arrived by `at` is counted; `pending` is what is not. All figures
    are of one snapshot; the windows equal a count of the runs with `createdAt >= at - window`.
    """
    database = mongo.get_read_database()
    return StatsStore(database).summarize(
        automations, at=at, has_windows=has_windows, wait_seconds=find_wait_seconds(database)
    )


def list_recent_hours(
    automation_ids: Collection[str], *, seconds: float = _SECONDS
) -> dict[str, dict[int, int]]:
    """Return runs by hour (its number since 1970, UTC) of the last eight days, by automation id.

    Raises TrackingUnavailable.
    """
    with bounded(seconds):
        return stats.list_recent_hours(mongo.get_read_database(), automation_ids)


def is_stats_enabled() -> bool:
    """Return whether statistics are shown: the environment and the stored switch must say so."""
    return (
        conf.is_stats_enabled
        and read_switch_of_late(mongo.get_read_database(), "stats") is SwitchState.ON
    )


def record_step_outcomes(outcomes: Sequence[StepOutcome], *, seconds: float = _SECONDS) -> None:
    """Store what became of runs' steps: on the run, and in the hour in which the run was counted.

    Told again, or in another order, they come to the same. Those of no run (`run_id` None), or of
    a run that is gone, are left out. Raises TrackingUnavailable: tell them all again.
    """
    of_runs = [outcome for outcome in outcomes if outcome.run_id is not None]
    OutcomeStore(mongo.get_database()).record_outcomes(of_runs, seconds=seconds)


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


def run_counter(
    stop: threading.Event, watch: Callable[[Callable[[], float]], None] = lambda _: None
) -> None:
    """Count in this process, which does nothing else, until `stop` is set.

    `watch` is given what returns the moment at which its loop came round the last time.
    """
    counter = _build_counter(is_dedicated=True)
    counter.start()
    watch(lambda: counter.turned_at)
    stop.wait()
    counter.close()


def list_stuck() -> list[partitions.Stuck]:
    """Return the automations that cannot be counted for now, with the reason of each."""
    with bounded(_SECONDS):
        return partitions.list_stuck(mongo.get_read_database())


def retry_stuck() -> int:
    """Have the automations that are stuck tried again at once; return how many there are."""
    with bounded(_SECONDS):
        return partitions.retry_stuck(mongo.get_database(), now=read_now())


def close() -> None:
    """Store what is queued, stop counting here and free the partitions; the next call restarts."""
    with _state.lock:
        process, _state.process = _state.process, None
    if process is not None:
        process.close()
    _close_account_hours()


def _close_account_hours() -> None:
    with _state.lock:
        hours, _state.hours = _state.hours, None
    if hours is not None:
        hours.close()


def _build_counter(*, is_dedicated: bool) -> Counter:
    return Counter(
        mongo.get_database(),
        window=conf.dedup_window, is_enabled=conf.is_enabled, is_dedicated=is_dedicated,
    )  # fmt: skip


class _Process:
    """What a process that hands triggers in needs: it stores, and counts where nobody else does."""

    def __init__(self) -> None:
        database = mongo.get_database()
        self.client = database.client
        self.storage = Storage(database)
        self.counter = _build_counter(is_dedicated=False)
        self.counter.start()
        self._totals = TotalStore(database)
        self._keys: dict[str, Any] = {}
        atexit.register(self.close)

    def find_key(self, automation_id: Any) -> Any:
        """Return the typed `_id` of the automation that a caller names by its text or its key."""
        if not isinstance(automation_id, str | UUID):
            return automation_id
        text = str(automation_id)
        forms = list_stored_forms(text)
        if len(forms) > 1 and text not in self._keys:
            with bounded(2.0):
                found = self._totals.find_existing([text])
            if not found:
                return forms[-1]  # a guess, until there is one
            self._keys[text] = found.popitem()[1]
        return self._keys.get(text, text)

    def close(self) -> None:
        """Stop; what is queued is stored first."""
        self.storage.close()
        self.counter.close()
        atexit.unregister(self.close)

    def abandon(self) -> None:
        """Let the threads end by themselves: their client is closed already."""
        self.storage.abandon()
        self.counter.abandon()
        atexit.unregister(self.close)


class _State:
    """What belongs to one process: threads, sockets and sessions do not survive a fork."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: _Process | None = None
        self.hours_client: Any = None
        self.hours: AccountHours | None = None


def _get_process() -> _Process:
    # A new client, as when the embedded server has moved to another port, has a new process.
    client = mongo.get_client()
    process = _state.process
    if process is None or process.client is not client:
        with _state.lock:
            process = _state.process
            if process is None or process.client is not client:
                if process is not None:
                    process.abandon()
                process = _state.process = _Process()
    return process


def _get_account_hours() -> AccountHours:
    client = mongo.get_client()
    if _state.hours is None or _state.hours_client is not client:
        with _state.lock:
            if _state.hours is None or _state.hours_client is not client:
                if _state.hours is not None:
                    _state.hours.abandon()
                store = AccountHourStore(mongo.get_database())
                _state.hours_client = client
                _state.hours = AccountHours(partial(store.add_account_hours, seconds=2.0))
    return _state.hours


_state = _State()
# Of this process, whichever it is: what a parent had pending is its own to write.
atexit.register(_close_account_hours)
# The parent keeps its threads; the child starts its own.
os.register_at_fork(after_in_child=_state.__init__)  # type: ignore[misc]

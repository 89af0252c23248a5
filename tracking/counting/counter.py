"""The counter: one thread that counts what waits in its partitions, batch after batch.

What cannot be counted is found by splitting the batch, and parks its automation: the reason stands
in the partition, what waits moves into a lane beside the queue, and all others go on.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, PyMongoError

from tracking.clock import read_now
from tracking.counting import metrics
from tracking.counting.batch import (
    BATCH_EVENTS,
    BatchCounter,
    Counted,
    MissingBases,
    is_foreign_key,
)
from tracking.counting.partitions import Fenced, Partitions, Stuck
from tracking.counting.switch import SwitchState, read_switch
from tracking.ids import partition_of
from tracking.mongo.errors import Failure, classify
from tracking.mongo.transactions import kill_session, session_id_of
from tracking.rollups.folding import Folder
from tracking.rollups.totals import TotalStore
from tracking.runs import Outcome

logger = logging.getLogger("tracking")

Document = dict[str, Any]

REBALANCE_SECONDS = 0.5
FOLD_SECONDS = 60.0
# How long an insert of triggers may take from their arrival until it is seen.
LONGEST_INSERT = timedelta(seconds=10)
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.02, 0.1
_CONFLICTS_BEFORE_SPLIT = 3
_FIRST_RETRY, _LAST_RETRY = timedelta(seconds=1), timedelta(minutes=5)
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Counter:
    """Counts waiting triggers. One thread uses it; `wake` and `close` may come from others."""

    def __init__(
        self,
        database: Database[Document],
        *,
        window: timedelta,
        is_enabled: bool = True,
        is_dedicated: bool = False,
    ) -> None:
        self._database = database
        self._client = database.client
        self._is_enabled = is_enabled
        self._partitions = Partitions(database, is_dedicated=is_dedicated)
        self._batches = BatchCounter(database, self._partitions, window=window)
        self._totals = TotalStore(database)
        self._folder = Folder(database)
        self._session: ClientSession | None = None
        self._abandoned: list[Any] = []
        self._is_unclear = False
        self._since = _LONG_AGO
        self._read_all_at = 0.0
        self._rebalance_at = 0.0
        self._fold_at = 0.0
        self._failures = 0
        self._open: set[str] = set()
        self._taking: dict[str, threading.Thread] = {}
        self._wakeup = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    # --- The thread ---------------------------------------------------------------------------

    def start(self) -> None:
        """Count in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name="tracking-counter", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look for triggers at once."""
        self._wakeup.set()

    def close(self, *, seconds: float = 5.0) -> None:
        """Stop after the batch under way and free the partitions."""
        if os.getpid() != self._pid:
            return
        self.abandon()
        if self._thread is not None:
            self._thread.join(seconds)

    def abandon(self) -> None:
        """Let the thread end by itself, when its client is closed already."""
        self._closing.set()
        self._wakeup.set()

    def run(self) -> None:
        """Count until `close`, whatever happens in between."""
        pause = _SHORTEST_PAUSE
        while not self._closing.is_set():
            try:
                worked = self.step()
                self._failures = 0
            except Exception as error:  # noqa: BLE001 - sorted by classify, bugs included
                worked = False
                self._recover(error)
                pause = min(0.02 * 2**self._failures, 1.0) * random.uniform(0.5, 1.0)  # noqa: S311
            else:
                pause = 0.0 if worked else min(max(pause * 1.5, _SHORTEST_PAUSE), _LONGEST_PAUSE)
            if pause and self._wakeup.wait(pause if self._partitions.owned else max(pause, 0.25)):
                pause = _SHORTEST_PAUSE
            self._wakeup.clear()
        with suppress(Exception):
            self.leave()

    def leave(self) -> None:
        """Free the partitions and end the session."""
        with pymongo.timeout(2.0):
            if self._is_unclear:
                self._mark_stored()
            self._partitions.leave()
            if self._session is not None:
                self._session.end_session()
                self._session = None

    def _recover(self, error: Exception) -> None:
        self._failures = min(self._failures + 1, 6)
        failure = classify(error)
        metrics.BATCH_FAILURES.labels(failure.name.lower()).inc()
        if isinstance(error, Fenced):
            logger.warning("⚠️ [TRACKING] Counter lost its lease; it starts again")
            self._partitions.counter_id = None
        elif failure is Failure.CONNECTIVITY or isinstance(error, PyMongoError):
            logger.debug("counting failed: %s %r", failure.name, error)
        else:
            logger.exception("❌ [TRACKING] Counting failed")
        self._drop_session()

    # --- One step -----------------------------------------------------------------------------

    def step(self) -> bool:
        """Do what is due; return whether a batch was counted. Raises what went wrong."""
        session = self._ensure_session()
        if self._is_unclear:
            self._mark_stored()
        now = time.monotonic()
        if now >= self._rebalance_at:
            self._rebalance_at = now + REBALANCE_SECONDS
            self._keep_house()
        if not (self._is_enabled and self._partitions.owned):
            return False
        if read_switch(self._database) is not SwitchState.ON:
            return False
        if now >= self._fold_at:
            self._fold_at = now + FOLD_SECONDS
            self._fold()
        worked = self._retry_stuck(session)
        is_all = now >= self._read_all_at
        since = _LONG_AGO if is_all else self._since
        if is_all:
            self._read_all_at = now + 1.0
        if not is_all and not worked and not self._has_waiting(since):
            return False
        return self._count_some(session, None, since) or worked

    def count_all(self) -> None:
        """Count until nothing waits that can be counted now."""
        self._read_all_at = self._rebalance_at = 0.0
        while self.step():
            self._read_all_at = 0.0

    def _has_waiting(self, since: datetime) -> bool:
        query = {"partition": {"$in": self._partitions.owned}, "createdAt": {"$gte": since}}
        return self._database["automation_triggers"].find_one(query, {"_id": 1}) is not None

    def _count_some(
        self, session: ClientSession, only: Collection[str] | None, since: datetime,
        *, lanes: Sequence[int] | None = None,
    ) -> bool:
        """Count a batch; where it cannot be, split it until who is to blame stands alone."""
        conflicts, is_checking = 0, False
        started = time.perf_counter()
        while True:
            try:
                counted = self._batches.count(
                    session, only=only, since=since, is_checking=is_checking,
                    lanes=self._partitions.owned if lanes is None else lanes,
                    excluded=() if lanes is not None else self._partitions.stuck,
                )
            except MissingBases as missing:
                self._take_bases(missing.keys)
                if lanes is not None and self._partitions.stuck.keys() & missing.keys.keys():
                    return True  # parked again
                continue
            except Fenced:
                raise
            except Exception as error:  # noqa: BLE001 - sorted by classify, bugs included
                failure = classify(error)
                is_foreign = is_foreign_key(error)
                if failure in (Failure.CONNECTIVITY, Failure.STALE_SESSION):
                    raise
                metrics.BATCH_FAILURES.labels(failure.name.lower()).inc()
                is_checking = isinstance(error, DuplicateKeyError) and not is_foreign
                if failure is Failure.CONFLICT and not is_foreign:
                    conflicts += 1
                    if conflicts < _CONFLICTS_BEFORE_SPLIT:
                        time.sleep(random.uniform(0.002, 0.02) * conflicts)  # noqa: S311
                        continue
                return self._split(session, since, lanes, error)
            break
        self._finish(counted, started)
        return not counted.is_empty

    def _split(
        self, session: ClientSession, since: datetime, lanes: Sequence[int] | None,
        error: Exception,
    ) -> bool:
        ids = self._batches.automation_ids
        if not ids:
            raise error
        if len(ids) == 1:
            self._park(ids[0], describe(error))
            return True
        middle = len(ids) // 2
        for half in (ids[:middle], ids[middle:]):
            self._count_some(session, half, since, lanes=lanes)
        return True

    def _finish(self, counted: Counted, started: float) -> None:
        if counted.excluded:
            self._move_to_lane([one["_id"] for one in counted.excluded])
        if not counted.documents:
            return
        self._is_unclear = True
        self._mark_stored()
        newest = max(one["createdAt"] for one in counted.documents)
        self._since = max(self._since, newest - LONGEST_INSERT)
        if len(counted.documents) >= BATCH_EVENTS:
            self._read_all_at = max(self._read_all_at, time.monotonic() + 0.5)
        self._open |= {one["automationId"] for one in counted.documents}
        report(counted, seconds=time.perf_counter() - started)

    def _mark_stored(self) -> None:
        """Mark the last batch as it is stored: also when its commit's reply was lost."""
        marks = self._partitions.find_batch()
        if marks is not None:
            self._batches.mark(marks)
        self._is_unclear = False

    # --- Stuck automations --------------------------------------------------------------------

    def _park(self, automation_id: str, reason: str) -> None:
        known = self._partitions.stuck.get(automation_id)
        now = read_now()
        tries = 1 if known is None else known.tries + 1
        pause = min(_FIRST_RETRY * 2 ** min(tries - 1, 9), _LAST_RETRY)
        stuck = Stuck(
            automation_id, reason, now if known is None else known.since, tries, now + pause
        )
        self._partitions.park(partition_of(automation_id), stuck)
        metrics.STUCK.set(len(self._partitions.stuck))
        if known is None or known.reason != reason:
            logger.error(
                "❌ [TRACKING] Automation %s cannot be counted: %s", automation_id, reason
            )

    def _move_to_lane(self, trigger_ids: Sequence[str]) -> None:
        """Take what waits of stuck automations out of the queue's head."""
        self._database["automation_triggers"].update_many(
            {"_id": {"$in": list(trigger_ids)}, "partition": {"$gte": 0}},
            [{"$set": {"partition": {"$subtract": [-1, "$partition"]}}}],
        )

    def _retry_stuck(self, session: ClientSession) -> bool:
        """Try the stuck automations that are due; return whether one was counted."""
        worked = False
        now = read_now()
        for stuck in [one for one in self._partitions.stuck.values() if one.retry_at <= now]:
            number = partition_of(stuck.automation_id)
            only = [stuck.automation_id]
            # The lane first: all in it arrived before what waits in the queue.
            while self._count_some(session, only, _LONG_AGO, lanes=[-1 - number]):
                if self._partitions.stuck[stuck.automation_id].tries != stuck.tries:
                    break
                worked = True
            else:
                self._partitions.release_stuck(number, stuck.automation_id)
                metrics.STUCK.set(len(self._partitions.stuck))
                self._read_all_at = 0.0
                logger.info("✅ [TRACKING] Automation %s is counted again", stuck.automation_id)
        return worked

    # --- Bases, folding, the lease ------------------------------------------------------------

    def _take_bases(self, keys: dict[str, Any]) -> None:
        """Take over what automations had before us; one that takes long waits for a thread."""
        try:
            with pymongo.timeout(2.0):
                self._totals.ensure_bases(keys, now=read_now(), seconds=1.5)
        except PyMongoError as error:
            if classify(error) is not Failure.CONNECTIVITY or not error.timeout:
                if len(keys) > 1:
                    for automation_id, key in keys.items():
                        self._take_bases({automation_id: key})
                    return
                [automation_id] = keys
                self._park(automation_id, describe(error))
                return
            for automation_id, key in keys.items():
                self._park(automation_id, "its earlier runs are being counted")
                if not (thread := self._taking.get(automation_id)) or not thread.is_alive():
                    self._taking[automation_id] = threading.Thread(
                        target=self._take_base, args=(automation_id, key), daemon=True
                    )
                    self._taking[automation_id].start()

    def _take_base(self, automation_id: str, key: Any) -> None:
        try:
            self._totals.ensure_bases({automation_id: key}, now=read_now(), seconds=600.0)
        except Exception as error:  # noqa: BLE001 - it is tried again with the automation
            logger.warning(
                "⚠️ [TRACKING] Earlier runs of %s could not be counted: %s",
                automation_id, type(error).__name__,
            )  # fmt: skip

    def _fold(self) -> None:
        now = datetime.now(UTC)
        for automation_id in sorted(self._open):
            self._folder.fold(automation_id, now=now)
        self._open = set(self._folder.list_open(self._open))

    def _keep_house(self) -> None:
        for dead in self._partitions.list_dead():
            if (fenced := self._partitions.fence(dead)) is not None:
                if marks := fenced.get("batch"):
                    self._batches.mark(marks)
                self._partitions.bury(fenced)
                logger.warning("⚠️ [TRACKING] Took over from a counter that is gone")
        self._partitions.renew()
        if self._partitions.rebalance():
            self._read_all_at = 0.0
            owned = self._partitions.owned
            self._open |= {one for one in self._folder.list_open() if partition_of(one) in owned}
        metrics.STUCK.set(len(self._partitions.stuck))

    def _ensure_session(self) -> ClientSession:
        while self._abandoned:
            kill_session(self._client, self._abandoned[0])
            del self._abandoned[0]
        if self._session is None:
            session = self._client.start_session(causal_consistency=False)
            # Named in the lease before it writes: else nobody could free its keys.
            if self._partitions.counter_id is None:
                self._partitions.register(session_id_of(session))
                self._rebalance_at = 0.0
            else:
                self._partitions.renew(session_id=session_id_of(session))
            self._session = session
        return self._session

    def _drop_session(self) -> None:
        """Leave the session behind: its transaction may be open, its commit may have happened."""
        self._is_unclear = True
        if self._session is not None:
            self._abandoned.append(session_id_of(self._session))
            with suppress(PyMongoError), pymongo.timeout(0.5):
                self._session.end_session()
            self._session = None


def describe(error: Exception) -> str:
    """Return in words why an automation cannot be counted; no text of a person is in it."""
    if is_foreign_key(error):
        pattern = (getattr(error, "details", None) or {}).get("keyPattern", {})
        return f"a unique index on ({', '.join(pattern)}) refuses its runs: drop that index"
    code = getattr(error, "code", None)
    if code == _VALIDATION_FAILURE:
        return "a validator of the collection refuses our documents"
    if classify(error) is Failure.CONFLICT:
        return "another program holds its documents"
    return f"{type(error).__name__}{f' {code}' if code else ''}"


_VALIDATION_FAILURE = 121


def report(counted: Counted, *, seconds: float) -> None:
    """Write the log lines and the metrics of a batch that is counted."""
    metrics.BATCH_EVENTS.observe(len(counted.documents))
    metrics.BATCH_SECONDS.observe(seconds)
    oldest = min(one["createdAt"] for one in counted.documents)
    metrics.LAG_SECONDS.observe(max((datetime.now(UTC) - oldest).total_seconds(), 0))
    numbers: dict[Any, int] = {}
    for decision in counted.decisions:
        numbers[decision.outcome] = numbers.get(decision.outcome, 0) + 1
    for outcome, number in numbers.items():
        metrics.BY_OUTCOME[outcome].inc(number)
    if not logger.isEnabledFor(logging.INFO):
        return
    for document, decision in zip(counted.documents, counted.decisions, strict=True):
        if decision.outcome is Outcome.COUNTED:
            logger.info(
                "✅ [TRACKING] Automation run tracked: %s (%s)",
                document["automationId"], document["triggerType"],
            )  # fmt: skip
        elif decision.outcome is Outcome.DUPLICATE:
            logger.info("ℹ️ [TRACKING] Duplicate run skipped for user %s", document["userId"])

"""The counter: one thread that counts what waits in its partitions, batch after batch.

What cannot be counted is found by splitting the batch, and parks its automation: the reason stands
in the partition, what waits moves into a lane beside the queue, and all others go on.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pymongo
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, InvalidOperation, PyMongoError

from tracking.clock import read_now
from tracking.counting import metrics
from tracking.counting.batch import (
    BATCH_EVENTS,
    BATCH_SECONDS,
    LONG_AGO,
    BatchCounter,
    Counted,
    MissingBases,
    Wanted,
)
from tracking.counting.partitions import Fenced, Held, Partitions, Stuck
from tracking.counting.switch import SwitchState, read_switch
from tracking.ids import lane_of, partition_of
from tracking.mongo.errors import Failure, classify, find_obstacle
from tracking.mongo.transactions import CommitUnclear, kill_session, session_id_of
from tracking.rollups.folding import CLOSED_AFTER, Folder
from tracking.rollups.hours import hour_of, start_of_hour
from tracking.rollups.totals import TotalStore
from tracking.runs import Outcome

logger = logging.getLogger("tracking")

Document = dict[str, Any]

LOOK_SECONDS = 0.5
FOLD_SECONDS = 60.0
# How long an insert of triggers may take from their arrival until it is seen.
LONGEST_INSERT = timedelta(seconds=10)
# How often the queue is read from its head: what was taken out of it slows that down.
_READ_ALL_SECONDS, _READ_ALL_SECONDS_BEHIND = 0.2, 1.0
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.02, 0.1
_LONGEST_FAILURE_PAUSE = 1.0
_FEWEST_EVENTS = 10
_CONFLICTS_BEFORE_SPLIT = 3
_FIRST_RETRY, _LAST_RETRY = timedelta(seconds=1), timedelta(minutes=5)
_FOLD_SECONDS_AT_ONCE = 0.1
_BASE_SECONDS = 1.5
_HOUSEKEEPING_SECONDS = 2.0


class Counter:
    """Counts waiting triggers. One thread uses it; `wake` and `close` may come from others.

    Dedicated counters share all partitions. Others count only where there is no dedicated one.
    """

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
        self._is_dedicated = is_dedicated
        self._partitions = Partitions(database, is_dedicated=is_dedicated)
        self._batches = BatchCounter(database, self._partitions, window=window)
        self._totals = TotalStore(database)
        self._folder = Folder(database)
        self._session: ClientSession | None = None
        self._abandoned: list[UUID] = []
        self._most = BATCH_EVENTS
        self._since = LONG_AGO
        self._was_full = self._is_interrupted = False
        self._look_at = self._read_all_at = self._fold_at = 0.0
        # Since when automations counted here may have hours to fold.
        self._unfolded: dict[str, datetime] = {}
        self._foldable: list[str] = []
        self._base_thread: threading.Thread | None = None
        self._wakeup = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self.turned_at = time.monotonic()

    # --- The thread ---------------------------------------------------------------------------

    def start(self) -> None:
        """Count in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name="tracking-counter", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look for triggers at once, if this is who counts."""
        if self._partitions.owned:
            self._wakeup.set()

    def close(self, *, seconds: float = 5.0) -> None:
        """Stop after the batch under way and free the partitions."""
        if os.getpid() != self._pid:
            return  # at the end of a forked child: all of it belongs to the parent
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
        failures = 0
        while not self._closing.is_set():
            self.turned_at = time.monotonic()
            try:
                has_counted = self.step()
            except InvalidOperation:
                return  # the client was closed
            except Exception as error:  # noqa: BLE001 - sorted by classify, bugs included
                self._handle_failure(error)
                failures += 1
                longest = min(_SHORTEST_PAUSE * 2**failures, _LONGEST_FAILURE_PAUSE)
                pause = random.uniform(0.5, 1.0) * longest  # noqa: S311
            else:
                failures = 0
                self._is_interrupted = False
                pause = _SHORTEST_PAUSE if has_counted else min(pause * 1.5, _LONGEST_PAUSE)
                if not self._partitions.owned:
                    pause = LOOK_SECONDS
                elif self._was_full:
                    pause = 0.0
            if pause and self._wakeup.wait(pause):
                pause = _SHORTEST_PAUSE
            self._wakeup.clear()
        with suppress(Exception):
            self.leave()

    def leave(self) -> None:
        """Free the partitions and end the session."""
        with pymongo.timeout(_HOUSEKEEPING_SECONDS), suppress(Fenced):
            if self._session is None:
                self._start_session()
            self._partitions.leave()
            self._ready.end_session()
            self._session = None

    def _handle_failure(self, error: Exception) -> None:
        failure = classify(error)
        metrics.BATCH_FAILURES.labels(failure.name.lower()).inc()
        if isinstance(error, Fenced):
            logger.warning("⚠️ [TRACKING] Counter lost its lease; it starts again")
            self._partitions.forget()
            self._look_at = 0.0
        elif isinstance(error, PyMongoError):
            if not self._is_interrupted:
                logger.warning(
                    "⚠️ [TRACKING] Counting is interrupted: %s, %s",
                    failure.value, type(error).__name__,
                )  # fmt: skip
        else:
            logger.error("❌ [TRACKING] Counting failed", exc_info=error)
        self._is_interrupted = True
        # Its transaction may be open, or its last commit may have happened: see _start_session.
        # It is not ended either: its client would give it to the next who needs one.
        if self._session is not None:
            self._abandoned.append(session_id_of(self._session))
            self._session = None

    # --- The session --------------------------------------------------------------------------

    def _start_session(self) -> None:
        """Start to count in a new session, when nothing is left to do of the one before."""
        while self._abandoned:
            kill_session(self._client, self._abandoned[0])
            del self._abandoned[0]
        session = self._client.start_session(causal_consistency=False)
        marks = self._partitions.start_epoch(session_id_of(session))
        if marks is not None:
            self._batches.mark(marks)
        self._session = session

    @property
    def _ready(self) -> ClientSession:
        if self._session is None:
            raise InvalidOperation("no session was started")
        return self._session

    # --- One step -----------------------------------------------------------------------------

    def step(self) -> bool:
        """Do what is due; return whether triggers were counted. Raises what went wrong."""
        if not self._is_enabled:
            return False  # nor does it own what another process could count
        with pymongo.timeout(_HOUSEKEEPING_SECONDS):
            if self._session is None:
                self._start_session()
            if time.monotonic() >= self._look_at:
                self._look_at = time.monotonic() + LOOK_SECONDS
                self._look()
        if not self._partitions.owned:
            return False
        self._fold()
        has_counted = self._retry_stuck()
        return self._count_next() or has_counted

    def count_all(self) -> None:
        """Count until nothing waits that can be counted now."""
        self._look_at = self._read_all_at = 0.0
        while self.step():
            self._read_all_at = 0.0

    def _look(self) -> None:
        """Take part, take over from counters that are gone, and take or give back partitions."""
        self._partitions.renew()
        overview = self._partitions.look()
        if overview.has_dedicated and not self._is_dedicated:
            self._partitions.leave()
            return
        if self._partitions.counter_id is None:
            self._partitions.register(session_id_of(self._ready))
            overview = self._partitions.look()
        for dead in overview.list_dead():
            if (fenced := self._partitions.fence(dead)) is not None:
                if marks := fenced.get("batch"):
                    self._batches.mark(marks)
                self._partitions.remove(fenced)
                logger.warning("⚠️ [TRACKING] Took over from a counter that is gone")
                overview = self._partitions.look()
        if self._partitions.rebalance(overview):
            self._read_all_at = 0.0

    def _count_next(self) -> bool:
        """Count the oldest triggers that wait; return whether there were any."""
        now = time.monotonic()
        since = self._since
        if now >= self._read_all_at:
            since = LONG_AGO
            pause = _READ_ALL_SECONDS_BEHIND if self._was_full else _READ_ALL_SECONDS
            self._read_all_at = now + pause
        wanted = Wanted(partitions=self._partitions.owned, since=since, most=self._most)
        with pymongo.timeout(_HOUSEKEEPING_SECONDS):
            is_due = self._was_full or self._batches.has_waiting(wanted)
            if not is_due or read_switch(self._database) is not SwitchState.ON:
                self._was_full = False
                return False
        read = self._count(wanted)
        self._was_full = read >= self._most
        return read > 0

    def _count(self, wanted: Wanted, *, retried: str | None = None) -> int:
        """Count a batch, or split it until the automation to blame stands alone; return its size.

        What is stuck is left out, but for the automation that is `retried`.
        """
        conflicts = 0
        while True:
            self._renew()
            stuck = self._partitions.stuck.keys() - {retried}
            wanted = msgspec.structs.replace(wanted, excluded=stuck)
            started = time.perf_counter()
            try:
                counted = self._batches.count(self._ready, wanted)
            except MissingBases as missing:
                if not self._take_bases(missing.keys) and retried is not None:
                    return 0
            except Held:
                time.sleep(_SHORTEST_PAUSE)
            except Fenced:
                raise
            except Exception as error:
                failure = classify(error)
                if failure is Failure.CONNECTIVITY:
                    # Where it was the time that ran out, fewer may be done in it.
                    self._most = max(self._most // 2, _FEWEST_EVENTS)
                if failure in (Failure.CONNECTIVITY, Failure.STALE_SESSION):
                    raise
                metrics.BATCH_FAILURES.labels(failure.name.lower()).inc()
                if failure is Failure.CONFLICT and find_obstacle(error) is None:
                    if isinstance(error, DuplicateKeyError) and self._batches.mark_known(wanted):
                        continue
                    conflicts += 1
                    if conflicts < _CONFLICTS_BEFORE_SPLIT:
                        time.sleep(random.uniform(0.002, 0.02) * conflicts)  # noqa: S311
                        continue
                self._split(wanted, error)
                return wanted.most  # there may be more
            else:
                self._finish(counted, started)
                return len(counted.documents) + counted.moved

    def _renew(self) -> None:
        """Extend the lease before each piece of work: each ends within it."""
        with pymongo.timeout(_HOUSEKEEPING_SECONDS):
            self._partitions.renew()

    def _split(self, wanted: Wanted, error: Exception) -> None:
        ids = self._batches.automation_ids
        if not ids:
            raise error
        if len(ids) == 1:
            self._park(ids[0], describe(error))
            return
        middle = len(ids) // 2
        for half in (ids[:middle], ids[middle:]):
            self._count(msgspec.structs.replace(wanted, only=half))

    def _finish(self, counted: Counted, started: float) -> None:
        if not counted.documents:
            return
        self._batches.mark(counted.marks)
        now = read_now()
        # The clock of another host may be ahead.
        newest = min(max(one["createdAt"] for one in counted.documents), now)
        self._since = newest - LONGEST_INSERT
        self._most = min(self._most + self._most // 8 + 1, BATCH_EVENTS)
        oldest = {one["automationId"]: one["createdAt"] for one in reversed(counted.documents)}
        for automation_id, moment in oldest.items():
            self._unfolded[automation_id] = min(self._unfolded.get(automation_id, LONG_AGO), moment)
        report(counted, at=now, seconds=time.perf_counter() - started)

    # --- Stuck automations --------------------------------------------------------------------

    def _park(self, automation_id: str, reason: str) -> None:
        known = self._partitions.stuck.get(automation_id)
        now = read_now()
        tries = 1 if known is None else known.tries + 1
        pause = min(_FIRST_RETRY * 2 ** min(tries - 1, 9), _LAST_RETRY)
        since = now if known is None else known.since
        with pymongo.timeout(_HOUSEKEEPING_SECONDS):
            self._partitions.park(Stuck(automation_id, reason, since, tries, now + pause))
        if known is None or known.reason != reason:
            logger.error("❌ [TRACKING] Automation %s cannot be counted: %s", automation_id, reason)

    def _retry_stuck(self) -> bool:
        """Count a batch of each stuck automation that is due; return whether one was counted."""
        has_counted = False
        now = read_now()
        due = [one for one in self._partitions.stuck.values() if one.retry_at <= now]
        with pymongo.timeout(_HOUSEKEEPING_SECONDS):
            if not due or read_switch(self._database) is not SwitchState.ON:
                return False
        for stuck in due:
            number = partition_of(stuck.automation_id)
            wanted = Wanted(
                partitions=[number, lane_of(number)], only=[stuck.automation_id], most=self._most
            )
            read = self._count(wanted, retried=stuck.automation_id)
            if self._partitions.stuck.get(stuck.automation_id) != stuck:
                continue  # parked again
            has_counted = has_counted or read > 0
            if not read:
                with pymongo.timeout(_HOUSEKEEPING_SECONDS):
                    self._partitions.release(stuck.automation_id)
                logger.info("✅ [TRACKING] Automation %s is counted again", stuck.automation_id)
        return has_counted

    # --- Bases and folding --------------------------------------------------------------------

    def _take_bases(self, keys: Mapping[str, Any]) -> bool:
        """Take over what automations had before us; park those where that fails or takes long."""
        try:
            with pymongo.timeout(BATCH_SECONDS):
                self._totals.ensure_bases(
                    keys, now=read_now(), seconds=_BASE_SECONDS, session=self._session
                )
        except CommitUnclear:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are counted
            if isinstance(error, PyMongoError) and error.timeout:
                for automation_id in keys:
                    self._park(automation_id, "its earlier runs are being counted")
                self._take_bases_in_thread(keys)
            elif len(keys) > 1:
                for automation_id, key in keys.items():
                    self._take_bases({automation_id: key})
            else:
                [automation_id] = keys
                self._park(automation_id, describe(error))
            return False
        return True

    def _take_bases_in_thread(self, keys: Mapping[str, Any]) -> None:
        def take() -> None:
            for automation_id, key in keys.items():
                try:
                    self._totals.ensure_bases({automation_id: key}, now=read_now(), seconds=600.0)
                except Exception as error:  # noqa: BLE001 - tried again with the automation
                    logger.warning(
                        "⚠️ [TRACKING] Earlier runs of %s could not be counted: %s",
                        automation_id, type(error).__name__,
                    )  # fmt: skip

        if self._base_thread is None or not self._base_thread.is_alive():
            self._base_thread = threading.Thread(target=take, name="tracking-bases", daemon=True)
            self._base_thread.start()

    def _fold(self) -> None:
        """Fold closed hours of automations counted here, for a tenth of a second at most.

        What a counter leaves behind is folded once its automation is counted again.
        """
        started = time.monotonic()
        now = read_now()
        if started >= self._fold_at:
            self._fold_at = started + FOLD_SECONDS
            last_open = start_of_hour(hour_of(now - CLOSED_AFTER))
            self._foldable = [name for name, at in self._unfolded.items() if at < last_open]
        while self._foldable and time.monotonic() - started < _FOLD_SECONDS_AT_ONCE:
            self._renew()
            automation_id = self._foldable.pop()
            try:
                with pymongo.timeout(BATCH_SECONDS):
                    self._folder.fold(automation_id, now=now, session=self._session)
            except Exception as error:
                if classify(error) is Failure.CONNECTIVITY:
                    raise
                logger.warning(
                    "⚠️ [TRACKING] Hours of %s not folded: %s", automation_id, describe(error)
                )
            else:
                self._unfolded[automation_id] = now - CLOSED_AFTER


def describe(error: Exception) -> str:
    """Return in words why an automation cannot be counted; no text of a person is in it."""
    if obstacle := find_obstacle(error):
        if isinstance(error, DuplicateKeyError):
            pattern = (error.details or {}).get("keyPattern", {})
            return f"a unique index on ({', '.join(pattern)}) refuses its runs: drop that index"
        return f"{obstacle} refuses our documents"
    if classify(error) is Failure.CONFLICT:
        return "another program holds its documents"
    code = getattr(error, "code", None)
    return f"unexpected error: {type(error).__name__}{f' {code}' if code else ''}"


def report(counted: Counted, *, at: datetime, seconds: float) -> None:
    """Write the log lines and the metrics of a batch that is counted."""
    metrics.BATCH_EVENTS.observe(len(counted.documents))
    metrics.BATCH_SECONDS.observe(seconds)
    oldest = min(one["createdAt"] for one in counted.documents)
    metrics.LAG_SECONDS.observe(max((at - oldest).total_seconds(), 0))
    outcomes = [decision.outcome for decision in counted.decisions]
    for outcome in (Outcome.COUNTED, Outcome.DUPLICATE, Outcome.CONTINUATION):
        metrics.BY_OUTCOME[outcome].inc(outcomes.count(outcome))
    if not logger.isEnabledFor(logging.INFO):
        return
    for document, outcome in zip(counted.documents, outcomes, strict=True):
        if outcome is Outcome.COUNTED:
            logger.info(
                "✅ [TRACKING] Automation run tracked: %s (%s)",
                document["automationId"], document["triggerType"],
            )  # fmt: skip
        elif outcome is Outcome.DUPLICATE:
            logger.info("ℹ️ [TRACKING] Duplicate run skipped for user %s", document["userId"])

"""Counting what became no trigger, per account and hour, without a delivery waiting for it.

Best effort: up to a second of it is lost with the process. What is exact is elsewhere.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from pymongo import UpdateOne, WriteConcern
from pymongo.database import Database

from tracking.exceptions import TrackingError
from tracking.mongo.errors import bounded
from tracking.rollups.hours import hour_of, start_of_hour

logger = logging.getLogger("tracking")

WRITE_SECONDS = 1.0
# While the database is away; more accounts and hours than this are not kept in memory.
MOST_PENDING = 10_000
# Best effort: worth neither a wait for the journal nor a second's patience.
_QUICK = WriteConcern(w=1, j=False)


class AccountHour(msgspec.Struct):
    """What an account had in one hour that became no trigger: ignored by reason, and known."""

    ignored: dict[str, int]
    redelivered: int = 0


Pending = dict[tuple[str, int], AccountHour]


class AccountHours:
    """Adds up in memory, and writes about once a second. Thread-safe."""

    def __init__(self, write: Callable[[Pending], None], *, seconds: float = WRITE_SECONDS) -> None:
        """`write` adds counts to those stored; it raises a TrackingError if it could not."""
        self._write = write
        self._seconds = seconds
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._pending: Pending = {}
        self._thread: threading.Thread | None = None
        self._has_work = threading.Event()
        self._closed = threading.Event()

    def add(
        self,
        account_id: str,
        *,
        at: datetime,
        ignored: Mapping[str, int] | None = None,
        redelivered: int = 0,
    ) -> None:
        """Add what an account had at `at`. Never waits for the database."""
        with self._lock:
            self._merge((account_id, hour_of(at)), ignored or {}, redelivered)
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name="account-hours", daemon=True)
                self._thread.start()
        self._has_work.set()

    def flush(self) -> bool:
        """Write what is waiting now; return whether it is stored."""
        with self._writing:
            with self._lock:
                pending, self._pending = self._pending, {}
            if not pending:
                return True
            try:
                self._write(pending)
            except TrackingError as error:
                logger.debug("Hours of %d accounts wait: %s", len(pending), error)
            except Exception as error:  # noqa: BLE001 - nothing depends on it
                logger.warning("⚠️ [TRACKING] Hours not written: %s", type(error).__name__)
                return False
            else:
                return True
            with self._lock:
                for key, counts in pending.items():
                    self._merge(key, counts.ignored, counts.redelivered)
            return False

    def close(self) -> None:
        """Write what is waiting, once, and stop the thread."""
        self.abandon()
        self.flush()
        if self._thread is not None:
            self._thread.join(self._seconds)

    def abandon(self) -> None:
        """Stop the thread; what is waiting is lost."""
        self._closed.set()
        self._has_work.set()

    def _merge(self, key: tuple[str, int], ignored: Mapping[str, int], redelivered: int) -> None:
        counts = self._pending.get(key)
        if counts is None:
            if len(self._pending) >= MOST_PENDING:
                return
            counts = self._pending[key] = AccountHour({})
        for reason, count in ignored.items():
            counts.ignored[reason] = counts.ignored.get(reason, 0) + count
        counts.redelivered += redelivered

    def _run(self) -> None:
        while not self._closed.is_set():
            # Asleep while there is nothing to write.
            self._has_work.wait()
            if self._closed.wait(self._seconds):
                return
            self._has_work.clear()
            if not self.flush():
                self._has_work.set()


class AccountHourStore:
    """Reads and writes of accounts' hours in `automation_hours`.

    "account:<accountId>:h<hour>"   {accountId, hour, ignored: {<reason>: n}, redelivered: n}

    Every method raises TrackingUnavailable.
    """

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._hours = database["automation_hours"]

    def add_account_hours(
        self, hours: Mapping[tuple[str, int], AccountHour], *, seconds: float
    ) -> None:
        """Add to the hours of accounts; whoever adds again after a lost answer adds twice."""
        writes = []
        for (account_id, hour), counts in hours.items():
            increments = {f"ignored.{reason}": n for reason, n in counts.ignored.items()}
            if counts.redelivered:
                increments["redelivered"] = counts.redelivered
            writes.append(
                UpdateOne(
                    {"_id": build_account_hour_id(account_id, hour)},
                    {
                        "$inc": increments,
                        "$setOnInsert": {"accountId": account_id, "hour": start_of_hour(hour)},
                    },
                    upsert=True,
                )
            )
        if not writes:
            return
        with bounded(seconds):
            self._hours.with_options(write_concern=_QUICK).bulk_write(writes, ordered=False)

    def summarize_account(
        self, account_id: str, *, since: datetime, until: datetime, seconds: float
    ) -> AccountHour:
        """Return the sum of an account's hours that overlap [since, until)."""
        first, last = hour_of(since), hour_of(until - timedelta(milliseconds=1))
        ids = {
            "$gte": build_account_hour_id(account_id, first),
            "$lte": build_account_hour_id(account_id, last),
        }
        total = AccountHour({})
        with bounded(seconds):
            for document in self._hours.find({"_id": ids}, batch_size=1000):
                total.redelivered += document.get("redelivered", 0)
                for reason, count in document.get("ignored", {}).items():
                    total.ignored[reason] = total.ignored.get(reason, 0) + count
        return total


def build_account_hour_id(account_id: str, hour: int) -> str:
    """Return the `_id` of what an account ignored in an hour."""
    return f"account:{account_id}:h{hour}"

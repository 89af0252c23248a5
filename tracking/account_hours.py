"""Counting what became no trigger, per account and hour, without a delivery waiting for it.

Best effort: up to a second of it is lost with the process. What is exact is elsewhere.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import datetime

from tracking.exceptions import TrackingError
from tracking.hour_store import AccountHour
from tracking.rollups import hour_of

logger = logging.getLogger("tracking")

WRITE_SECONDS = 1.0
# While the database is away; more accounts and hours than this are not kept in memory.
MOST_PENDING = 10_000

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

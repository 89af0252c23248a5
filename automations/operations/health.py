"""Whether this process should be given requests, and what waits: read at most once a second.

MongoDB without a primary and a clock that is off (the clock of counting is the host's) make it
unready. A missing index, and what waits to be counted or sent, do not: all processes have them.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from automations.operations import health_store
from tracking.exceptions import TrackingUnavailable

logger = logging.getLogger("automations")

MOST_CLOCK_SECONDS = 1.0
MOST_LAG = timedelta(minutes=5)
# For all of it; past this the answer is that MongoDB does not answer.
_SECONDS = 0.9
_KEPT_SECONDS = 1.0
_INDEXES_KEPT_SECONDS = 60.0
_COUNTS_KEPT_SECONDS = 10.0


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What was found; `problem` is the class of the error that ended the look early.

    What was not found is None. `clock_offset` is in seconds, positive where this host is ahead.
    """

    clock_offset: float | None = None
    missing_indexes: list[str] | None = None
    queue_lag: timedelta | None = None
    counting_lag: timedelta | None = None
    dead_letters: int | None = None
    uncounted: int | None = None
    stuck: int | None = None
    queued: int | None = None
    problem: str | None = None

    @property
    def has_primary(self) -> bool:
        return self.clock_offset is not None

    @property
    def is_clock_right(self) -> bool:
        """Whether this host's clock is within a second of the primary's."""
        return self.clock_offset is not None and abs(self.clock_offset) <= MOST_CLOCK_SECONDS

    is_ready = is_clock_right  # whether requests should come here

    def to_document(self) -> dict[str, Any]:
        """Return the answer of /readyz: a check each, with its figure and its limit."""
        return {
            "status": "ready" if self.is_ready else "unready",
            "checks": {
                "mongodb": {"ok": self.has_primary, "problem": self.problem},
                "clock": {
                    "ok": self.is_clock_right,
                    "aheadSeconds": self.clock_offset and round(self.clock_offset, 3),
                    "limitSeconds": MOST_CLOCK_SECONDS,
                },
                "indexes": {"ok": self.missing_indexes == [], "missing": self.missing_indexes},
            },
            "waiting": {
                "sends": self.queued,
                "sendsLateSeconds": _round(self.queue_lag),
                "sendsLate": self.queue_lag is not None and self.queue_lag > MOST_LAG,
                "deadLetters": self.dead_letters,
                "uncounted": self.uncounted,
                "countingLateSeconds": _round(self.counting_lag),
                "stuckAutomations": self.stuck,
            },
        }


def _round(lag: timedelta | None) -> float | None:
    return None if lag is None else round(lag.total_seconds(), 1)


class HealthReader:
    """Looks at MongoDB for whoever asks, one look at a time. Thread-safe.

    `clock` is this host's, in seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._health: Health | None = None
        self._looked_at = -math.inf
        self._warned_of: list[str] = []
        self._kept: dict[str, tuple[float, Any]] = {}

    def read(self) -> Health:
        """Return what a look found, of the last second if all was well. Takes a second at most."""
        asked_at = time.monotonic()
        health = self._health
        if health is not None and self._is_kept(health, asked_at):
            return health
        # While one looks, the others are told what the last look found.
        if not self._lock.acquire(timeout=-1 if health is None else 0):
            return health or Health(problem="busy")
        try:
            if self._health is None or not self._is_kept(self._health, asked_at):
                self._health = self._look()
                self._looked_at = time.monotonic()
            return self._health
        finally:
            self._lock.release()

    def _is_kept(self, health: Health, asked_at: float) -> bool:
        return self._looked_at > asked_at - (_KEPT_SECONDS if health.is_ready else 0.0)

    def _look(self) -> Health:
        found: dict[str, Any] = {}
        try:
            with health_store.limited(_SECONDS):
                found["clock_offset"] = health_store.read_clock_offset(self._clock)
                found["missing_indexes"] = self._list_missing_indexes()
                found["queue_lag"] = health_store.read_queue_lag(now=datetime.now(UTC))
                found["counting_lag"] = health_store.read_counting_lag(now=datetime.now(UTC))
                found |= self._keep(health_store.count_waiting, _COUNTS_KEPT_SECONDS)
        except TrackingUnavailable as error:
            found["problem"] = str(error)
        return Health(**found)

    def _list_missing_indexes(self) -> list[str]:
        missing: list[str] = self._keep(health_store.list_missing_indexes, _INDEXES_KEPT_SECONDS)
        if missing:
            del self._kept["list_missing_indexes"]  # they may be there by the next look
        if missing and missing != self._warned_of:
            logger.warning(
                "⚠️ Indexes are missing: %s. Run `manage.py add_run_indexes`", ", ".join(missing)
            )
        self._warned_of = missing
        return missing

    def _keep(self, read: Callable[[], Any], seconds: float) -> Any:
        until, value = self._kept.get(read.__name__, (0.0, None))
        if time.monotonic() >= until:
            value = read()
            self._kept[read.__name__] = (time.monotonic() + seconds, value)
        return value


reader = HealthReader()

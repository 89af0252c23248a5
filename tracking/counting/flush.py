"""One flush: many triggers in one transaction, retried, split and, if all fails, left untracked."""

import logging
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
from bson import ObjectId
from pymongo.database import Database
from pymongo.errors import PyMongoError

from tracking.counting.bases import KnownBases
from tracking.counting.claims import ClaimFinder
from tracking.counting.metrics import FLUSH_FAILURES
from tracking.counting.stripes import StripeLease
from tracking.counting.transaction import FlushTransaction
from tracking.exceptions import TrackingUnavailable
from tracking.mongo.errors import Failure, classify
from tracking.rollups.totals import TotalStore, is_ambiguous
from tracking.runs import Outcome, Planned, Trigger

logger = logging.getLogger("tracking")

# What a flush answers for each trigger: its outcome, None if its keys are locked by somebody else
# for now, or the reason why nothing could be stored.
Answer = Outcome | TrackingUnavailable | None

_CONFLICTS_BEFORE_SPLIT = 2


class Flusher:
    """Writes flushes, one at a time. Not thread-safe: it owns one session."""

    def __init__(
        self,
        database: Database[dict[str, Any]],
        *,
        window: timedelta,
        is_enabled: bool = True,
        claim_keys: Sequence[bytes] = (),
    ) -> None:
        self._totals = TotalStore(database)
        self._bases = KnownBases(self._totals)
        claims = ClaimFinder(database, bases=self._bases, window=window, keys=claim_keys)
        self._keys: dict[str, Any] = {}
        self.lease = StripeLease(database)
        self._transaction = FlushTransaction(
            database,
            lease=self.lease, bases=self._bases, claims=claims, window=window,
            is_enabled=is_enabled,
        )  # fmt: skip

    def flush(self, triggers: Sequence[Trigger], *, deadline: float) -> list[Answer]:
        """Store `triggers` exactly once and return an answer for each, in order.

        `deadline` is on `time.monotonic`. Returns within it, a round trip more or less.
        """
        attempts: dict[str, Planned] = {}
        answers = self._flush_part(triggers, deadline, attempts)
        self._merge(triggers, answers, deadline)
        return answers

    def find_key(self, automation_id: Any) -> Any:
        """Return the typed `_id` of an automation that a caller names by its text or its key."""
        if not is_ambiguous(automation_id):
            return automation_id
        if automation_id not in self._keys:
            with pymongo.timeout(2):
                key = self._totals.find_stored_key(automation_id)
            if key is None:
                return ObjectId(automation_id)  # it may still come, of either type
            self._keys[automation_id] = key
        return self._keys[automation_id]

    def close(self) -> None:
        """End the session and give the stripe back."""
        self._transaction.close(seconds=2.0)
        with suppress(PyMongoError), pymongo.timeout(2):
            self.lease.release()

    def _flush_part(
        self, triggers: Sequence[Trigger], deadline: float, attempts: dict[str, Planned]
    ) -> list[Answer]:
        conflicts = 0
        tries = 0
        while True:
            try:
                return [*self._transaction.run(triggers, deadline, attempts)]
            except Exception as error:  # noqa: BLE001 - sorted by classify, bugs included
                failure = classify(error)
                FLUSH_FAILURES.labels(failure.name.lower()).inc()
                logger.debug("flush of %d failed: %s %r", len(triggers), failure.name, error)
                if failure is Failure.OTHER:
                    return self._fall_back(triggers, deadline, attempts, error)
                if failure is Failure.DOCUMENT:
                    return self._isolate(triggers, deadline, attempts, error)
                if failure is Failure.CONFLICT:
                    conflicts += 1
                    self._bury_dead(deadline)
                    if conflicts >= _CONFLICTS_BEFORE_SPLIT:
                        return self._split(triggers, deadline, attempts)
                elif failure is not Failure.HELD:
                    self._transaction.drop_session()
                tries += 1
                if time.monotonic() >= deadline:
                    return [TrackingUnavailable(failure.value)] * len(triggers)
            time.sleep(random.uniform(0.5, 1.0) * min(0.005 * 2**tries, 0.1))  # noqa: S311

    def _split(
        self, triggers: Sequence[Trigger], deadline: float, attempts: dict[str, Planned]
    ) -> list[Answer]:
        if len(triggers) == 1:
            return [None]
        if time.monotonic() >= deadline:
            return [TrackingUnavailable(Failure.CONFLICT.value)] * len(triggers)
        middle = len(triggers) // 2
        return [
            *self._flush_part(triggers[:middle], deadline, attempts),
            *self._flush_part(triggers[middle:], deadline, attempts),
        ]

    def _isolate(
        self,
        triggers: Sequence[Trigger],
        deadline: float,
        attempts: dict[str, Planned],
        error: Exception,
    ) -> list[Answer]:
        """Split until the trigger that cannot be stored stands alone, and refuse that one."""
        if len(triggers) > 1:
            return self._split(triggers, deadline, attempts)
        try:
            return [*self._transaction.run(triggers, deadline, attempts, is_counting=False)]
        except Exception as second:  # noqa: BLE001 - sorted by classify, bugs included
            if classify(second) is Failure.DOCUMENT:
                logger.error("❌ [TRACKING] Trigger cannot be stored: %s", type(error).__name__)
                return [Outcome.REJECTED]
            return self._give_up(triggers, second)

    def _fall_back(
        self,
        triggers: Sequence[Trigger],
        deadline: float,
        attempts: dict[str, Planned],
        error: Exception,
    ) -> list[Answer]:
        """Store the triggers alone, uncounted: tracking that fails never stops an answer (I7)."""
        logger.error(
            "❌ [TRACKING] Counting failed, %d triggers are kept as untracked: %s %s",
            len(triggers), type(error).__name__, getattr(error, "code", None) or "",
        )  # fmt: skip
        for is_bare in (False, True):  # bare where the switch or the writers cannot be read either
            try:
                return [
                    *self._transaction.run(
                        triggers, deadline, attempts, is_counting=False, is_bare=is_bare
                    )
                ]
            except Exception as second:  # noqa: BLE001 - sorted by classify, bugs included
                last = second
            if classify(last) is Failure.DOCUMENT:
                return self._isolate(triggers, deadline, attempts, last)
            if classify(last) is not Failure.OTHER:
                break
        return self._give_up(triggers, last)

    def _give_up(self, triggers: Sequence[Trigger], error: Exception) -> list[Answer]:
        self._transaction.drop_session()
        return [TrackingUnavailable(classify(error).value)] * len(triggers)

    def _merge(
        self, triggers: Sequence[Trigger], answers: Sequence[Answer], deadline: float
    ) -> None:
        keys = {
            t.automation_id: t.automation_key
            for t, answer in zip(triggers, answers, strict=True)
            if isinstance(answer, Outcome)
            and t.continues is None
            and t.automation_id in self._bases
        }
        if not keys:
            return
        seconds = max(deadline - time.monotonic(), 0.2)
        try:
            with pymongo.timeout(seconds):
                self._totals.merge_totals(keys, now=datetime.now(UTC), seconds=seconds)
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer stands
            # The runs are committed; the next flush or redelivery of the automation mends the copy.
            logger.warning("⚠️ [TRACKING] Totals not merged: %s", type(error).__name__)

    def _bury_dead(self, deadline: float) -> None:
        with suppress(PyMongoError), pymongo.timeout(max(deadline - time.monotonic(), 0.05)):
            self.lease.reap_expired()

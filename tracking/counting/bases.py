"""The base documents that this process knows: taken before an automation is first counted."""

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pymongo.errors import PyMongoError, ServerSelectionTimeoutError

from tracking.mongo.errors import Failure, classify
from tracking.rollups.totals import TotalStore
from tracking.runs import Trigger

logger = logging.getLogger("tracking")

_BASE_RETRY_SECONDS = 60.0
_CONFLICT_RETRY_SECONDS = 2.0


class KnownBases:
    """Which automations have a base, and until when their runs may lack contacts."""

    def __init__(self, totals: TotalStore) -> None:
        self._totals = totals
        # Per automation: until when its pairs may have raw runs without a contact.
        self._claims_until: dict[str, datetime | None] = {}
        self._retry_at: dict[str, float] = {}

    def __contains__(self, automation_id: str) -> bool:
        """Return whether the automation has a base."""
        return automation_id in self._claims_until

    def is_settled(self, trigger: Trigger, *, window: timedelta) -> bool:
        """Return whether every run that could make this trigger a duplicate has a contact."""
        try:
            until = self._claims_until[trigger.automation_id]
        except KeyError:
            return False
        return until is None or trigger.arrived_at > until + window

    def ensure(self, triggers: Sequence[Trigger]) -> None:
        """Take the bases that are missing; counting goes on without those that cannot be taken.

        Raises pymongo's error where the server is away.
        """
        now = time.monotonic()
        missing = {
            t.automation_id: t.automation_key
            for t in triggers
            if t.automation_id not in self._claims_until
            and t.continues is None
            and self._retry_at.get(t.automation_id, 0.0) <= now
        }
        if not missing:
            return
        try:
            bases = self._totals.ensure_bases(missing, now=datetime.now(UTC), seconds=1.0)
        except PyMongoError as error:
            if _is_passing(error):
                raise
            # Counting needs no base; the total shows the runs counted until one can be taken.
            if classify(error) is Failure.CONFLICT:  # somebody takes it now, or died doing so
                self._retry_at |= dict.fromkeys(missing, now + _CONFLICT_RETRY_SECONDS)
                return
            self._retry_at |= dict.fromkeys(missing, now + _BASE_RETRY_SECONDS)
            logger.error(
                "❌ [TRACKING] Earlier runs of %d automations could not be read (%s): "
                "run 'python manage.py add_run_fields'", len(missing), type(error).__name__,
            )  # fmt: skip
            return
        for automation_id, base in bases.items():
            self._claims_until[automation_id] = base.get("claimsUntil")


def _is_passing(error: PyMongoError) -> bool:
    """Return whether the server is away or changing, rather than slow or unwilling."""
    failure = classify(error)
    if failure is Failure.CONNECTIVITY:
        return isinstance(error, ServerSelectionTimeoutError) or not error.timeout
    return failure is Failure.STALE_SESSION

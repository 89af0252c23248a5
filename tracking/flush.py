"""One flush: many triggers in one transaction, retried, split and, if all fails, left untracked."""

import logging
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
from bson import ObjectId
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import PyMongoError, ServerSelectionTimeoutError

from tracking.exceptions import TrackingUnavailable
from tracking.failures import Failure, classify
from tracking.metrics import FLUSH_FAILURES
from tracking.runs import (
    Claim,
    FlushPlan,
    Outcome,
    Planned,
    Trigger,
    build_contact_id,
    build_continuation,
    build_trigger_id,
    find_erased_run,
    plan_flush,
)
from tracking.store import FlushStore, generate_run_ids
from tracking.stripes import StripeLease
from tracking.switch import Switch, SwitchHeld, SwitchState, find_switch, touch_stripe
from tracking.totals import TotalStore, is_ambiguous
from tracking.transactions import MAJORITY, PRIMARY, SNAPSHOT, session_id_of

logger = logging.getLogger("tracking")

# What a flush answers for each trigger: its outcome, None if its keys are locked by somebody else
# for now, or the reason why nothing could be stored.
Answer = Outcome | TrackingUnavailable | None

_BASE_RETRY_SECONDS = 60.0
_CONFLICT_RETRY_SECONDS = 2.0
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
        self._database = database
        self._window = window
        self._is_enabled = is_enabled
        self._claim_keys = claim_keys
        self._store = FlushStore(database)
        self._totals = TotalStore(database)
        self._run_ids = generate_run_ids()
        self._session: ClientSession | None = None
        # Per automation: until when its pairs may have raw runs without a contact.
        self._claims_until: dict[str, datetime | None] = {}
        self._keys: dict[str, Any] = {}
        self._base_retry_at: dict[str, float] = {}
        self.lease = StripeLease(database)

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
        with suppress(PyMongoError), pymongo.timeout(2):
            if self._session is not None:
                self._session.end_session()
                self._session = None
            self.lease.release()

    def _flush_part(
        self, triggers: Sequence[Trigger], deadline: float, attempts: dict[str, Planned]
    ) -> list[Answer]:
        conflicts = 0
        tries = 0
        while True:
            try:
                return self._attempt(triggers, deadline, attempts)
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
                    self._drop_session()
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
            return self._attempt(triggers, deadline, attempts, is_counting=False)
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
        try:
            return self._attempt(triggers, deadline, attempts, is_counting=False)
        except Exception as second:  # noqa: BLE001 - sorted by classify, bugs included
            if classify(second) is Failure.DOCUMENT:
                return self._isolate(triggers, deadline, attempts, second)
            return self._give_up(triggers, second)

    def _give_up(self, triggers: Sequence[Trigger], error: Exception) -> list[Answer]:
        self._drop_session()
        return [TrackingUnavailable(classify(error).value)] * len(triggers)

    def _attempt(
        self,
        triggers: Sequence[Trigger],
        deadline: float,
        attempts: dict[str, Planned],
        *,
        is_counting: bool = True,
    ) -> list[Answer]:
        """Try once. `attempts` are the triggers that came as far as a commit before, and do now."""
        ids = [build_trigger_id(t.account_id, t.kind, t.event_id) for t in triggers]
        with pymongo.timeout(max(deadline - time.monotonic(), 0.05)):
            if is_counting:
                self._ensure_bases(triggers)
            session = self._ensure_session()
            session.start_transaction(
                read_concern=SNAPSHOT, write_concern=MAJORITY, read_preference=PRIMARY
            )
            try:
                plan = self._write(triggers, ids, session, is_counting=is_counting)
                before = self._find_own(ids, plan, attempts, session)
                attempts.update((item.trigger_id, item) for item in plan.planned)
                # Also when nothing was written: an acknowledgement must not rest on a read that a
                # failover undoes, and this commit waits for the majority.
                session.commit_transaction()
            except BaseException:
                if session.in_transaction:
                    with suppress(PyMongoError):
                        session.abort_transaction()
                raise
        # Answered: an event that stands in another part of the flush too is a redelivery there.
        for trigger_id in ids:
            attempts.pop(trigger_id, None)
        if not before:
            return list(plan.outcomes)
        # pop: an event that stands twice in a flush was counted once.
        return [
            before.pop(trigger_id, outcome)
            for trigger_id, outcome in zip(ids, plan.outcomes, strict=True)
        ]

    def _write(
        self,
        triggers: Sequence[Trigger],
        ids: Sequence[str],
        session: ClientSession,
        *,
        is_counting: bool,
    ) -> FlushPlan:
        known = self._store.find_known_ids(ids, session)
        if len(known) == len(ids):
            return FlushPlan([Outcome.REDELIVERED] * len(ids), [], {})
        switch = find_switch(self._database, session)
        if switch.state is SwitchState.HELD and is_counting:
            raise SwitchHeld
        is_on = switch.state is SwitchState.ON
        if not is_on:
            touch_stripe(self._database, self.lease.stripe, session)
        fresh = [t for t, one in zip(triggers, ids, strict=True) if one not in known]
        if not (is_on and is_counting and self._is_enabled):
            erased = self._find_erased(_find_first(fresh), switch, session)
            plan = plan_untracked(triggers, ids, known, erased=erased, window=self._window)
            self._store.insert_untracked(plan.planned, session)
            return plan
        plan = plan_flush(
            triggers,
            ids,
            known_ids=known,
            claims=self._find_claims(fresh, switch, session),
            window=self._window,
            run_ids=self._run_ids,
        )
        self._store.insert_plan(plan, stripe=self.lease.stripe, session=session)
        return plan

    def _find_claims(
        self, fresh: Sequence[Trigger], switch: Switch, session: ClientSession
    ) -> dict[str, Claim]:
        pairs = _find_first(trigger for trigger in fresh if not trigger.is_late)
        claims = self._store.find_claims(pairs, session) if pairs else {}
        unsettled = [
            trigger
            for contact_id, trigger in pairs.items()
            if contact_id not in claims and not self._is_settled(trigger)
        ]
        if unsettled:
            claims |= self._store.find_raw_claims(unsettled, window=self._window, session=session)
        if switch.erased_until is not None:
            pairs = {key: one for key, one in _find_first(fresh).items() if key not in claims}
            claims |= self._find_erased(pairs, switch, session)
        return claims

    def _find_erased(
        self, pairs: Mapping[str, Trigger], switch: Switch, session: ClientSession
    ) -> dict[str, Claim]:
        """Return the claims of erased pairs: one read, and only for a window after an erasure."""
        until = switch.erased_until
        if until is None:
            return {}
        wanted = [key for key, trigger in pairs.items() if trigger.arrived_at <= until]
        if not wanted:
            return {}
        return self._store.find_erased_claims(wanted, keys=self._claim_keys, session=session)

    def _is_settled(self, trigger: Trigger) -> bool:
        try:
            until = self._claims_until[trigger.automation_id]
        except KeyError:
            return False
        return until is None or trigger.arrived_at > until + self._window

    def _find_own(
        self,
        ids: Sequence[str],
        plan: FlushPlan,
        attempts: dict[str, Planned],
        session: ClientSession,
    ) -> dict[str, Outcome]:
        """Return outcomes that an earlier attempt of ours committed before its reply was lost."""
        if not attempts:
            return {}
        fresh = {item.trigger_id for item in plan.planned}
        ours = [one for one in ids if one in attempts and one not in fresh]
        stored = self._store.find_run_ids(ours, session) if ours else {}
        return {
            trigger_id: attempts[trigger_id].outcome
            for trigger_id, run_id in stored.items()
            if attempts[trigger_id].run_id == run_id
        }

    def _ensure_bases(self, triggers: Sequence[Trigger]) -> None:
        now = time.monotonic()
        missing = {
            t.automation_id: t.automation_key
            for t in triggers
            if t.automation_id not in self._claims_until
            and t.continues is None
            and self._base_retry_at.get(t.automation_id, 0.0) <= now
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
                self._base_retry_at |= dict.fromkeys(missing, now + _CONFLICT_RETRY_SECONDS)
                return
            self._base_retry_at |= dict.fromkeys(missing, now + _BASE_RETRY_SECONDS)
            logger.error(
                "❌ [TRACKING] Earlier runs of %d automations could not be read (%s): "
                "run 'python manage.py add_run_fields'", len(missing), type(error).__name__,
            )  # fmt: skip
            return
        for automation_id, base in bases.items():
            self._claims_until[automation_id] = base.get("claimsUntil")

    def _merge(
        self, triggers: Sequence[Trigger], answers: Sequence[Answer], deadline: float
    ) -> None:
        keys = {
            t.automation_id: t.automation_key
            for t, answer in zip(triggers, answers, strict=True)
            if isinstance(answer, Outcome)
            and t.continues is None
            and t.automation_id in self._claims_until
        }
        if not keys:
            return
        try:
            with pymongo.timeout(max(deadline - time.monotonic(), 0.2)):
                self._totals.merge_totals(keys, now=datetime.now(UTC))
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer stands
            # The runs are committed; the next flush or redelivery of the automation mends the copy.
            logger.warning("⚠️ [TRACKING] Totals not merged: %s", type(error).__name__)

    def _ensure_session(self) -> ClientSession:
        if self._session is None:
            session = self._database.client.start_session(causal_consistency=False)
            # Named in the lease before it writes: else nobody could free its keys.
            self.lease.hold(session_id_of(session))
            self._session = session
        return self._session

    def _drop_session(self) -> None:
        if self._session is not None:
            with suppress(PyMongoError), pymongo.timeout(0.5):
                self._session.end_session()
            self._session = None
            self.lease.abandon_session()

    def _bury_dead(self, deadline: float) -> None:
        with suppress(PyMongoError), pymongo.timeout(max(deadline - time.monotonic(), 0.05)):
            self.lease.bury_dead()


def _is_passing(error: PyMongoError) -> bool:
    """Return whether the server is away or changing, rather than slow or unwilling."""
    failure = classify(error)
    if failure is Failure.CONNECTIVITY:
        return isinstance(error, ServerSelectionTimeoutError) or not error.timeout
    return failure is Failure.STALE_SESSION


def _find_first(triggers: Iterable[Trigger]) -> dict[str, Trigger]:
    """Return of each pair the one that arrived first: an earlier run may count for it alone."""
    pairs: dict[str, Trigger] = {}
    for trigger in triggers:
        contact_id = build_contact_id(trigger.automation_id, trigger.user_id)
        first = pairs.get(contact_id, trigger)
        if trigger.continues is None and trigger.arrived_at <= first.arrived_at:
            pairs[contact_id] = trigger
    return pairs


def plan_untracked(
    triggers: Sequence[Trigger],
    trigger_ids: Sequence[str],
    known_ids: set[str],
    *,
    erased: Mapping[str, Claim],
    window: timedelta,
) -> FlushPlan:
    """Return the plan that stores every new trigger without counting it.

    A continuation never counts, so that it is stored as what it is. One in the window of an
    `erased` pair names that pair's run: it is its duplicate, which nobody could tell later.
    """
    seen = set(known_ids)
    outcomes: list[Outcome] = []
    planned: list[Planned] = []
    for trigger, trigger_id in zip(triggers, trigger_ids, strict=True):
        if trigger_id in seen:
            outcomes.append(Outcome.REDELIVERED)
            continue
        seen.add(trigger_id)
        if trigger.continues is not None:
            outcomes.append(Outcome.CONTINUATION)
            planned.append(build_continuation(trigger, trigger_id))
            continue
        outcomes.append(Outcome.UNTRACKED)
        run_id = find_erased_run(trigger, erased, window)
        planned.append(Planned(trigger, trigger_id, Outcome.UNTRACKED, run_id))
    return FlushPlan(outcomes, planned, {})

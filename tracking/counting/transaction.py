"""One attempt at a flush: a transaction that reads, decides, writes and commits."""

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pymongo
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import PyMongoError

from tracking.counting.bases import KnownBases
from tracking.counting.claims import ClaimFinder
from tracking.counting.reads import FlushReads
from tracking.counting.stripes import StripeLease
from tracking.counting.switch import SwitchState, touch_stripe
from tracking.counting.writes import FlushStore, generate_run_ids
from tracking.exceptions import SwitchHeld
from tracking.ids import build_contact_id, build_trigger_id
from tracking.mongo.transactions import MAJORITY, PRIMARY, SNAPSHOT, session_id_of
from tracking.runs import FlushPlan, Outcome, Planned, Trigger, plan_flush, plan_untracked


class FlushTransaction:
    """Runs the transactions of one process's flushes, on a session that its lease names."""

    def __init__(
        self,
        database: Database[dict[str, Any]],
        *,
        lease: StripeLease,
        bases: KnownBases,
        claims: ClaimFinder,
        window: timedelta,
        is_enabled: bool,
    ) -> None:
        self._database = database
        self._lease = lease
        self._bases = bases
        self._claims = claims
        self._window = window
        self._is_enabled = is_enabled
        self._reads = FlushReads(database)
        self._store = FlushStore(database)
        self._run_ids = generate_run_ids()
        self._session: ClientSession | None = None

    def run(
        self,
        triggers: Sequence[Trigger],
        deadline: float,
        attempts: dict[str, Planned],
        *,
        is_counting: bool = True,
        is_bare: bool = False,
    ) -> list[Outcome]:
        """Try once. `attempts` are the triggers that came as far as a commit before, and do now.

        `is_bare`: nothing of tracking is touched but the triggers, which are stored uncounted.

        Raises what went wrong; nothing was stored then, unless it was the commit's reply that
        was lost.
        """
        ids = [build_trigger_id(t.account_id, t.kind, t.event_id) for t in triggers]
        with pymongo.timeout(max(deadline - time.monotonic(), 0.05)):
            if is_counting:
                self._bases.ensure(triggers)
            session = self._ensure_session(is_bare=is_bare)
            session.start_transaction(
                read_concern=SNAPSHOT, write_concern=MAJORITY, read_preference=PRIMARY
            )
            try:
                plan = (
                    self._write_bare(triggers, ids, session)
                    if is_bare
                    else self._write(triggers, ids, session, is_counting=is_counting)
                )
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
            return plan.outcomes
        # pop: an event that stands twice in a flush was counted once.
        return [
            before.pop(trigger_id, outcome)
            for trigger_id, outcome in zip(ids, plan.outcomes, strict=True)
        ]

    def drop_session(self) -> None:
        """End the session, and let its transaction be killed: it may be open on the server."""
        if self._session is not None:
            self.close(seconds=0.5)
            self._lease.abandon_session()

    def close(self, *, seconds: float) -> None:
        """End the session."""
        if self._session is not None:
            with suppress(PyMongoError), pymongo.timeout(seconds):
                self._session.end_session()
            self._session = None

    def _ensure_session(self, *, is_bare: bool) -> ClientSession:
        if self._session is None:
            session = self._database.client.start_session(causal_consistency=False)
            # Named in the lease before it writes: else nobody could free its keys.
            try:
                self._lease.hold(session_id_of(session))
            except PyMongoError:
                if not is_bare:
                    raise
            self._session = session
        return self._session

    def _write(
        self,
        triggers: Sequence[Trigger],
        ids: Sequence[str],
        session: ClientSession,
        *,
        is_counting: bool,
    ) -> FlushPlan:
        contact_ids = [build_contact_id(t.automation_id, t.user_id) for t in triggers]
        pairs = dict(zip(ids, contact_ids, strict=True))
        found = self._reads.find(pairs, session)
        known = found.known_ids
        if len(known) == len(pairs):
            return FlushPlan([Outcome.REDELIVERED] * len(ids), [], {})
        state = found.switch.state
        if state is SwitchState.HELD and is_counting:
            raise SwitchHeld
        is_on = state is SwitchState.ON
        if not is_on:
            touch_stripe(self._database, self._lease.stripe, session)
        fresh = [t for t, one in zip(triggers, ids, strict=True) if one not in known]
        if not (is_on and is_counting and self._is_enabled):
            erased = self._claims.find_erased(fresh, found.switch, session)
            plan = plan_untracked(triggers, ids, known, erased=erased, window=self._window)
            self._store.insert_triggers(plan.planned, session)
            return plan
        plan = plan_flush(
            triggers,
            ids,
            known_ids=known,
            claims=self._claims.find(fresh, found, session),
            window=self._window,
            run_ids=self._run_ids,
        )
        self._store.insert_plan(plan, stripe=self._lease.stripe, session=session)
        return plan

    def _write_bare(
        self, triggers: Sequence[Trigger], ids: Sequence[str], session: ClientSession
    ) -> FlushPlan:
        known = set(self._reads.find_run_ids(ids, session))
        plan = plan_untracked(triggers, ids, known, erased={}, window=self._window)
        self._store.insert_triggers(plan.planned, session)
        return plan

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
        stored = self._reads.find_run_ids(ours, session) if ours else {}
        return {
            trigger_id: attempts[trigger_id].outcome
            for trigger_id, run_id in stored.items()
            if attempts[trigger_id].run_id == run_id
        }

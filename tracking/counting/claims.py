"""The claims of a flush: for each pair the run that may make its triggers duplicates.

Nearly all are contacts, which come with the flush's first read. Two more places are looked at only
where they may hold something: runs that an older product left without contacts, and, for a window
after an erasure, what is kept of erased pairs. Every method runs inside the caller's transaction.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.database import Database

from tracking.counting.bases import KnownBases
from tracking.counting.reads import Found
from tracking.counting.switch import Switch
from tracking.ids import build_contact_id, build_erased_id
from tracking.mongo.commands import run_find
from tracking.runs import Claim, Trigger

Document = dict[str, Any]


class ClaimFinder:
    """Finds the claims of the triggers of one process's flushes."""

    def __init__(
        self,
        database: Database[Document],
        *,
        bases: KnownBases,
        window: timedelta,
        keys: Sequence[bytes],
    ) -> None:
        self._database = database
        self._runs = database["automation_runs"]
        self._bases = bases
        self._window = window
        self._keys = keys

    def find(
        self, fresh: Sequence[Trigger], found: Found, session: ClientSession
    ) -> dict[str, Claim]:
        """Return the claims of new triggers, by contact id."""
        pairs = find_first(trigger for trigger in fresh if not trigger.is_late)
        claims = {key: found.claims[key] for key in pairs if key in found.claims}
        unsettled = [
            trigger
            for contact_id, trigger in pairs.items()
            if contact_id not in claims and not self._bases.is_settled(trigger, window=self._window)
        ]
        if unsettled:
            claims |= self._find_raw_claims(unsettled, session)
        return claims | self.find_erased(fresh, found.switch, session, known=claims)

    def find_erased(
        self,
        fresh: Sequence[Trigger],
        switch: Switch,
        session: ClientSession,
        *,
        known: Collection[str] = (),
    ) -> dict[str, Claim]:
        """Return the claims of those pairs that were erased, by contact id, without the `known`.

        A window after the last erasure nobody is asked for any more.
        """
        until = switch.erased_until
        if until is None:
            return {}
        pairs = find_first(trigger for trigger in fresh if trigger.arrived_at <= until)
        wanted = [contact_id for contact_id in pairs if contact_id not in known]
        return self._find_erased_claims(wanted, session) if wanted else {}

    def _find_erased_claims(
        self, contact_ids: Collection[str], session: ClientSession
    ) -> dict[str, Claim]:
        pairs = {build_erased_id(one, key=key): one for key in self._keys for one in contact_ids}
        found = run_find(
            self._database, "erased_claims", {"_id": {"$in": list(pairs)}}, ("lastRunAt", "runId"),
            most=len(pairs), session=session,
        )  # fmt: skip
        return {
            pairs[document["_id"]]: Claim(
                last_run_at=document["lastRunAt"], last_run_id=document["runId"], is_erased=True
            )
            for document in found
        }

    def _find_raw_claims(
        self, triggers: Iterable[Trigger], session: ClientSession
    ) -> dict[str, Claim]:
        """Return the newest raw run of each trigger's pair within the window before it."""
        pairs: dict[str, set[str]] = {}
        oldest: datetime | None = None
        for trigger in triggers:
            pairs.setdefault(trigger.automation_id, set()).add(trigger.user_id)
            oldest = trigger.arrived_at if oldest is None else min(oldest, trigger.arrived_at)
        if oldest is None:
            return {}
        claims: dict[str, Claim] = {}
        for automation_id, user_ids in pairs.items():
            runs = self._runs.find(
                {"automationId": automation_id, "userId": {"$in": list(user_ids)},
                 "createdAt": {"$gte": oldest - self._window}},
                {"userId": 1, "createdAt": 1}, session=session,
            )  # fmt: skip
            for run in sorted(runs, key=lambda run: run["createdAt"]):
                contact_id = build_contact_id(automation_id, run["userId"])
                claims[contact_id] = Claim(
                    last_run_at=run["createdAt"],
                    last_run_id=run["_id"],
                    first_run_at=run["createdAt"],
                )
        return claims


def find_first(triggers: Iterable[Trigger]) -> dict[str, Trigger]:
    """Return of each pair the one that arrived first: an earlier run may count for it alone."""
    pairs: dict[str, Trigger] = {}
    for trigger in triggers:
        contact_id = build_contact_id(trigger.automation_id, trigger.user_id)
        first = pairs.get(contact_id, trigger)
        if trigger.continues is None and trigger.arrived_at <= first.arrived_at:
            pairs[contact_id] = trigger
    return pairs

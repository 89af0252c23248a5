"""Counting one batch: read, decide, write, commit; and then mark what was counted."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import pymongo
from bson import Int64
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tracking.clock import read_now
from tracking.counting.documents import (
    WAITING_FIELDS,
    Growth,
    build_contacts,
    build_growth,
    build_mark_updates,
    build_marks,
    build_move,
    build_run,
    build_stats_updates,
    parse_claim,
    parse_waiting,
)
from tracking.counting.partitions import Partitions
from tracking.ids import (
    build_contact_id,
    list_all_forms,
    list_stored_forms,
    name_person,
    parse_trigger_id,
)
from tracking.mongo.transactions import run_find, run_insert, run_update, transact
from tracking.rollups.hours import IS_DATED, build_base_id, parse_count
from tracking.runs import Claim, Decision, Outcome, Waiting, is_late, plan_batch

Document = dict[str, Any]

BATCH_EVENTS = 1000
# Within the lease of a counter: what takes longer is tried again with fewer triggers.
BATCH_SECONDS = 2.0
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_MARK_SECONDS = 2.0
_CLAIM_FIELDS = ("lastRunAt", "lastRunId", "firstRunAt")
_BASE_FIELDS = ("automationId", "runs", "base", "claimsUntil")


class MissingBases(Exception):
    """Automations that were never counted before; their typed `_id`s by id."""

    def __init__(self, keys: Mapping[str, Any]) -> None:
        super().__init__(f"{len(keys)} automations have no base yet")
        self.keys = dict(keys)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The triggers to count: the oldest `most` of these partitions that arrived from `since` on.

    `only` those of these automations. Those of `excluded` ones are moved to their lanes instead.
    """

    partitions: Sequence[int]
    since: datetime = LONG_AGO
    only: Collection[str] | None = None
    excluded: Collection[str] = ()
    most: int = BATCH_EVENTS


class Counted(msgspec.Struct, frozen=True):
    """A batch that is committed: its triggers, a decision for each, and how many were moved.

    `marks` are the decisions as the counter keeps them.
    """

    documents: list[Document]
    decisions: list[Decision]
    marks: Document
    moved: int


class BatchCounter:
    """Counts batches of a counter's partitions, on its session."""

    def __init__(self, database: Database[Document], partitions: Partitions, *, window: timedelta):
        self._database = database
        self._partitions = partitions
        self._window = window
        # The automations of the batch that was read last: where the one to blame must be.
        self.automation_ids: list[str] = []

    def count(self, session: ClientSession, wanted: Wanted) -> Counted:
        """Count a batch in one transaction. It must be marked before the next.

        Raises MissingBases, Fenced, CommitUnclear, and what MongoDB raises: but for CommitUnclear,
        nothing was counted.
        """
        self.automation_ids = []
        with pymongo.timeout(BATCH_SECONDS):
            return transact(session, partial(self._count, wanted))

    def has_waiting(self, wanted: Wanted) -> bool:
        """Return whether there is anything to count."""
        return bool(self._read_triggers(None, msgspec.structs.replace(wanted, most=1)))

    def mark(self, marks: Mapping[str, Any]) -> None:
        """Mark the triggers of a committed batch, by its decisions: safe to repeat."""
        updates = build_mark_updates(marks, now=read_now())
        if updates:
            with pymongo.timeout(_MARK_SECONDS):
                run_update(self._database, "automation_triggers", updates)

    def mark_known(self, wanted: Wanted) -> int:
        """Mark the triggers whose run exists already; return how many there were."""
        with pymongo.timeout(BATCH_SECONDS):
            documents = [one for one in self._read_triggers(None, wanted) if "continues" not in one]
            found = self._find("automation_runs", [one["runId"] for one in documents], ())
            known = {one["_id"] for one in found}
        documents = [one for one in documents if one["runId"] in known]
        self.mark(build_marks(
            documents, [Decision(Outcome.COUNTED, one["runId"]) for one in documents]
        ))  # fmt: skip
        return len(documents)

    def _count(self, wanted: Wanted, session: ClientSession) -> Counted:
        found = self._read_triggers(session, wanted)
        if not found:
            return Counted([], [], {}, 0)
        documents = [one for one in found if one["automationId"] not in wanted.excluded]
        keys = {one["automationId"]: one.get("automationKey") for one in documents}
        self.automation_ids = list(keys)
        waiting = [parse_waiting(one) for one in documents]
        bases = self._read_bases(session, keys, waiting)
        claims = self._read_claims(session, waiting, bases)
        continued = self._read_continued(session, waiting)

        decisions = plan_batch(waiting, claims=claims, continued=continued, window=self._window)

        marks = build_marks(documents, decisions)
        self._partitions.write_batch(marks, session)
        self._write(session, documents, decisions, claims, bases)
        moved = len(found) - len(documents)
        if moved:
            move = build_move([one for one in found if one["automationId"] in wanted.excluded])
            run_update(self._database, "automation_triggers", [move], session)
        return Counted(documents, decisions, marks, moved)

    # --- Read ---------------------------------------------------------------------------------

    def _find(
        self,
        collection: str,
        ids: Collection[Any],
        fields: Sequence[str],
        session: ClientSession | None = None,
    ) -> list[Document]:
        if not ids:
            return []
        query = {"_id": {"$in": list(ids)}}
        return run_find(self._database, collection, query, fields, most=len(ids), session=session)

    def _read_triggers(self, session: ClientSession | None, wanted: Wanted) -> list[Document]:
        only = wanted.only
        query: Document = {
            "partition": {"$in": list(wanted.partitions)},
            "createdAt": {"$gte": wanted.since},
            # Whatever else a document holds: one without an automation could blame none.
            "automationId": {"$type": "string"} if only is None else {"$in": list(only)},
        }
        found = run_find(
            self._database, "automation_triggers", query, WAITING_FIELDS, most=wanted.most,
            sort={"createdAt": 1}, session=session,
        )  # fmt: skip
        for one in found:
            if "erasedAs" in one:  # the erasure has not come to its `userId` yet
                one["userId"] = one["erasedAs"]
        return found

    def _read_bases(
        self, session: ClientSession, keys: Mapping[str, Any], waiting: Iterable[Waiting]
    ) -> dict[str, Document]:
        ids = [build_base_id(one) for one in keys]
        found = self._find("automation_run_stats", ids, _BASE_FIELDS, session)
        bases = {one["automationId"]: one for one in found if "base" in one}
        wanted = {one.automation_id for one in waiting if one.continues is None}
        if missing := wanted - bases.keys():
            raise MissingBases({one: keys[one] for one in missing})
        return bases

    def _read_claims(
        self,
        session: ClientSession,
        waiting: Sequence[Waiting],
        bases: Mapping[str, Document],
    ) -> dict[str, Claim]:
        wanted = [one for one in waiting if one.continues is None]
        ids = {one.contact_id for one in wanted}
        found = self._find("automation_contacts", ids, _CLAIM_FIELDS, session)
        claims = {one["_id"]: parse_claim(one) for one in found}
        unclear: list[Waiting] = []
        for one in wanted:
            claim = claims.get(one.contact_id)
            if claim is None:
                # Runs that an older product left have no contacts.
                until = bases[one.automation_id].get("claimsUntil")
                is_unclear = until is not None and one.arrived_at <= until + self._window
            else:
                is_unclear = is_late(one.arrived_at, claim.last_run_at, self._window)
            if is_unclear:
                unclear.append(one)
        if unclear:
            self._read_runs(session, unclear, claims)
        return claims

    def _read_runs(
        self, session: ClientSession, unclear: Sequence[Waiting], claims: dict[str, Claim]
    ) -> None:
        """Add the runs around these triggers to the claims of their pairs."""
        oldest: dict[str, dict[str, datetime]] = {}
        for one in unclear:
            people = oldest.setdefault(one.automation_id, {})
            people[one.user_id] = min(people.get(one.user_id, one.arrived_at), one.arrived_at)
        stored = set(claims)
        for automation_id, people in oldest.items():
            query = {
                "automationId": {"$in": list_stored_forms(automation_id)},
                "userId": {"$in": list_all_forms(people)},
                "createdAt": IS_DATED | {"$gte": min(people.values()) - self._window},
            }
            runs = self._database["automation_runs"].find(
                query, {"userId": 1, "createdAt": 1}, session=session, batch_size=BATCH_EVENTS
            )
            for run in runs.sort("createdAt", 1):
                contact_id = build_contact_id(automation_id, name_person(run["userId"]) or "")
                claim = claims.setdefault(contact_id, Claim())
                claim.near.append((run["createdAt"], run["_id"]))
                if contact_id not in stored:
                    claim.last_run_at, claim.last_run_id = run["createdAt"], run["_id"]
                    claim.first_run_at = claim.first_run_at or run["createdAt"]

    def _read_continued(self, session: ClientSession, waiting: Sequence[Waiting]) -> dict[str, Any]:
        wanted = {one.continues for one in waiting if one.continues is not None}
        wanted -= {one.trigger_id for one in waiting}
        found = self._find("automation_triggers", wanted, ("runId",), session)
        return {one["_id"]: one["runId"] for one in found if one.get("runId") is not None}

    # --- Write --------------------------------------------------------------------------------

    def _write(
        self,
        session: ClientSession,
        documents: Sequence[Document],
        decisions: Sequence[Decision],
        claims: Mapping[str, Claim],
        bases: Mapping[str, Document],
    ) -> None:
        runs = [
            build_run(document, parse_trigger_id(document["_id"])[2])
            for document, decision in zip(documents, decisions, strict=True)
            if decision.outcome is Outcome.COUNTED
        ]
        contacts, claimed = build_contacts(runs, claims)
        growth = build_growth(documents, decisions)
        copies = build_copies(growth, bases, now=read_now())
        if contacts:
            run_insert(self._database, "automation_contacts", contacts, session)
        if claimed:
            run_update(self._database, "automation_contacts", claimed, session)
        if runs:
            run_insert(self._database, "automation_runs", runs, session)
        if growth:
            stats = build_stats_updates(growth)
            run_update(self._database, "automation_run_stats", stats, session)
        if copies:
            run_update(self._database, "automations", copies, session)


def build_copies(
    growth: Mapping[str, Growth], bases: Mapping[str, Mapping[str, Any]], *, now: datetime
) -> list[Document]:
    """Return the updates of `automations`, addressed by each automation's own typed `_id`.

    A stored value that is no number is greater than any number for `$max`, and stays.
    """
    updates = []
    for automation_id, one in growth.items():
        if one.runs:
            total = parse_count(bases[automation_id].get("runs")) + one.runs
            newest = {"totalRuns": Int64(total), "lastRunAt": one.newest}
            change = {"$max": newest, "$set": {"updatedAt": now}}
            updates.append({"q": {"_id": one.key}, "u": change})
    return updates

"""Counting one batch: a transaction that reads, decides, writes and commits, and its marks."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pymongo
from bson import Int64
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, PyMongoError

from tracking.clock import read_now
from tracking.counting.documents import (
    WAITING_FIELDS,
    Growth,
    build_contacts,
    build_growth,
    build_run,
    build_stats_updates,
    parse_waiting,
)
from tracking.counting.partitions import Partitions
from tracking.ids import parse_trigger_id
from tracking.mongo.commands import run_find, run_insert, run_update
from tracking.mongo.transactions import MAJORITY, PRIMARY, SNAPSHOT
from tracking.rollups.hours import build_base_id
from tracking.rollups.totals import parse_count
from tracking.runs import Claim, Decision, Outcome, Waiting, is_late, plan_batch

Document = dict[str, Any]

BATCH_EVENTS = 1000
_CLAIM_FIELDS = ("lastRunAt", "lastRunId", "firstRunAt")
_BASE_FIELDS = ("automationId", "runs", "claimsUntil")
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class MissingBases(Exception):
    """Automations that were never counted before; their typed `_id`s by id."""

    def __init__(self, keys: Mapping[str, Any]) -> None:
        super().__init__(f"{len(keys)} automations have no base yet")
        self.keys = dict(keys)


class Counted(msgspec.Struct, frozen=True):
    """A batch that is committed: the stored triggers with their decisions, in order."""

    documents: list[Document]
    decisions: list[Decision]
    excluded: list[Document]

    @property
    def is_empty(self) -> bool:
        """Whether nothing was read at all."""
        return not self.documents and not self.excluded


class BatchCounter:
    """Counts batches of one counter's partitions, on one session."""

    def __init__(self, database: Database[Document], partitions: Partitions, *, window: timedelta):
        self._database = database
        self._partitions = partitions
        self._window = window
        # The automations of the batch that was read last: where the one to blame must be.
        self.automation_ids: list[str] = []

    def count(
        self,
        session: ClientSession,
        *,
        lanes: Sequence[int],
        only: Collection[str] | None = None,
        excluded: Collection[str] = (),
        since: datetime = _LONG_AGO,
        is_checking: bool = False,
        seconds: float = 2.0,
    ) -> Counted:
        """Count the oldest waiting triggers of the partitions `lanes`; mark them afterwards.

        `only` these automations, and not those `excluded`, which are handed back. `is_checking`
        looks for runs that exist already, after a duplicate key. Raises MissingBases, Fenced, and
        what MongoDB raises: nothing is counted then, unless it was the commit's reply that was
        lost: mark what the counter's own document holds before the next call.
        """
        self.automation_ids = []
        deadline = time.monotonic() + seconds
        with pymongo.timeout(seconds):
            session.start_transaction(
                read_concern=SNAPSHOT, write_concern=MAJORITY, read_preference=PRIMARY
            )
            try:
                counted = self._count(session, lanes, only, excluded, since, is_checking)
                if counted.documents:
                    session.commit_transaction()
                else:
                    session.abort_transaction()
            except BaseException:
                if session.in_transaction:
                    with pymongo.timeout(max(deadline - time.monotonic(), 0.2)):
                        _abort(session)
                raise
        return counted

    def _count(
        self,
        session: ClientSession,
        lanes: Sequence[int],
        only: Collection[str] | None,
        excluded: Collection[str],
        since: datetime,
        is_checking: bool,
    ) -> Counted:
        found = self._read(session, lanes, only, since)
        documents = [one for one in found if one["automationId"] not in excluded]
        others = [one for one in found if one["automationId"] in excluded] if excluded else []
        keys = {one["automationId"]: one.get("automationKey", one["automationId"])
                for one in documents}  # fmt: skip
        self.automation_ids = list(keys)
        if not documents:
            return Counted([], [], others)
        done = self._find_done(session, documents) if is_checking else []
        if done:
            ids = {one["_id"] for one in done}
            documents = [one for one in documents if one["_id"] not in ids]
        waiting = [parse_waiting(one) for one in documents]
        bases = self._find_bases(session, keys, waiting)
        contact_ids = [one.contact_id for one in waiting]
        claims = self._find_claims(session, waiting, contact_ids, bases)
        decisions = plan_batch(
            waiting, claims=claims, window=self._window,
            continued=self._find_continued(session, waiting),
        )  # fmt: skip
        documents += done
        decisions += [Decision(Outcome.COUNTED, one["runId"]) for one in done]
        # First: a counter that was fenced ends here.
        self._partitions.write_batch(build_marks(documents, decisions), session)
        fresh = len(waiting)
        self._write(session, documents[:fresh], decisions[:fresh], claims, contact_ids, bases)
        return Counted(documents, decisions, others)

    def _find_done(
        self, session: ClientSession, documents: Sequence[Document]
    ) -> list[Document]:
        """Return those whose run exists: they were counted, and their mark was lost."""
        ids = [one["runId"] for one in documents if "continues" not in one]
        found = run_find(
            self._database, "automation_runs", {"_id": {"$in": ids}}, (), most=len(ids),
            session=session,
        )  # fmt: skip
        known = {one["_id"] for one in found}
        return [one for one in documents if "continues" not in one and one["runId"] in known]

    def _read(
        self,
        session: ClientSession,
        lanes: Sequence[int],
        only: Collection[str] | None,
        since: datetime,
    ) -> list[Document]:
        query: Document = {"partition": {"$in": list(lanes)}, "createdAt": {"$gte": since}}
        if only is not None:
            query["automationId"] = {"$in": list(only)}
        found = run_find(
            self._database, "automation_triggers", query, WAITING_FIELDS, most=BATCH_EVENTS,
            sort={"createdAt": 1}, session=session,
        )  # fmt: skip
        for one in found:
            if "erasedAs" in one:  # the erasure has not come to its `userId` yet
                one["userId"] = one["erasedAs"]
        return found

    def _find_bases(
        self, session: ClientSession, keys: Mapping[str, Any], waiting: Iterable[Waiting]
    ) -> dict[str, Document]:
        ids = [build_base_id(one) for one in keys]
        found = run_find(
            self._database, "automation_run_stats", {"_id": {"$in": ids}}, _BASE_FIELDS,
            most=len(ids), session=session,
        )  # fmt: skip
        bases = {one["automationId"]: one for one in found}
        wanted = {one.automation_id for one in waiting if one.continues is None}
        if missing := wanted - bases.keys():
            raise MissingBases({one: keys[one] for one in missing})
        return bases

    def _find_claims(
        self,
        session: ClientSession,
        waiting: Sequence[Waiting],
        contact_ids: Sequence[str],
        bases: Mapping[str, Document],
    ) -> dict[str, Claim]:
        wanted = {contact_id: one for contact_id, one in zip(contact_ids, waiting, strict=True)
                  if one.continues is None}  # fmt: skip
        found = run_find(
            self._database, "automation_contacts", {"_id": {"$in": list(wanted)}}, _CLAIM_FIELDS,
            most=len(wanted), session=session,
        ) if wanted else []  # fmt: skip
        claims = {one["_id"]: parse_claim(one) for one in found}
        unclear: list[Waiting] = []
        for contact_id, one in zip(contact_ids, waiting, strict=True):
            if one.continues is not None:
                continue
            claim = claims.get(contact_id)
            if claim is None:
                until = bases[one.automation_id].get("claimsUntil")
                if until is not None and one.arrived_at <= until + self._window:
                    unclear.append(one)  # runs that an older product left have no contacts
            elif is_late(one.arrived_at, claim.last_run_at, self._window):
                unclear.append(one)
        if unclear:
            self._read_runs(session, unclear, claims)
        return claims

    def _read_runs(
        self, session: ClientSession, unclear: Sequence[Waiting], claims: dict[str, Claim]
    ) -> None:
        """Add the runs around these triggers to the claims of their pairs."""
        pairs: dict[str, dict[str, datetime]] = {}
        for one in unclear:
            oldest = pairs.setdefault(one.automation_id, {})
            oldest[one.user_id] = min(oldest.get(one.user_id, one.arrived_at), one.arrived_at)
        stored = set(claims)
        for automation_id, people in pairs.items():
            runs = self._database["automation_runs"].find(
                {"automationId": automation_id, "userId": {"$in": list(people)},
                 "createdAt": {"$gte": min(people.values()) - self._window}},
                {"userId": 1, "createdAt": 1}, session=session,
            ).sort("createdAt", 1)  # fmt: skip
            for run in runs:
                contact_id = Waiting(
                    trigger_id="", automation_id=automation_id, user_id=run["userId"],
                    arrived_at=run["createdAt"], run_id=None,
                ).contact_id  # fmt: skip
                claim = claims.setdefault(contact_id, Claim())
                claim.near.append((run["createdAt"], run["_id"]))
                if contact_id not in stored:
                    claim.last_run_at, claim.last_run_id = run["createdAt"], run["_id"]
                    claim.first_run_at = claim.first_run_at or run["createdAt"]

    def _find_continued(
        self, session: ClientSession, waiting: Sequence[Waiting]
    ) -> dict[str, Any]:
        wanted = {one.continues for one in waiting if one.continues is not None}
        wanted -= {one.trigger_id for one in waiting}
        if not wanted:
            return {}
        found = run_find(
            self._database, "automation_triggers", {"_id": {"$in": sorted(wanted)}}, ("runId",),
            most=len(wanted), session=session,
        )  # fmt: skip
        return {one["_id"]: one["runId"] for one in found if one.get("runId") is not None}

    def _write(
        self,
        session: ClientSession,
        documents: Sequence[Document],
        decisions: Sequence[Decision],
        claims: Mapping[str, Claim],
        contact_ids: Sequence[str],
        bases: Mapping[str, Document],
    ) -> None:
        inserts, updates = build_contacts(documents, claims, contact_ids)
        runs = [
            build_run(document, parse_trigger_id(document["_id"])[2])
            for document, decision in zip(documents, decisions, strict=True)
            if decision.outcome is Outcome.COUNTED
        ]
        if inserts:
            run_insert(self._database, "automation_contacts", inserts, session)
        if updates:
            run_update(self._database, "automation_contacts", updates, session)
        if runs:
            run_insert(self._database, "automation_runs", runs, session)
        growth = build_growth(documents, decisions)
        if growth:
            run_update(
                self._database, "automation_run_stats", build_stats_updates(growth), session
            )
        copies = build_copies(growth, bases, now=read_now())
        if copies:
            run_update(self._database, "automations", copies, session)

    def mark(self, marks: Mapping[str, Any]) -> None:
        """Mark the triggers of a committed batch, outside of a transaction: safe to repeat.

        It need not wait for the majority: the next batch's commit does, and comes later.
        """
        updates = build_mark_updates(marks)
        if updates:
            with pymongo.timeout(5.0):
                run_update(
                    self._database, "automation_triggers", updates, write_concern={"w": 1}
                )


def parse_claim(document: Mapping[str, Any]) -> Claim:
    """Return the claim that a contact is."""
    return Claim(
        last_run_at=document.get("lastRunAt"),
        last_run_id=document.get("lastRunId"),
        first_run_at=document.get("firstRunAt"),
        is_stored=True,
    )


def build_copies(
    growth: Mapping[str, Growth], bases: Mapping[str, Document], *, now: datetime
) -> list[Document]:
    """Return the updates of `automations`, addressed by each automation's own typed `_id`.

    A stored value that is no number is greater than any number for `$max`, and stays.
    """
    updates = []
    for automation_id, one in growth.items():
        if not one.runs:
            continue
        total = parse_count(bases[automation_id].get("runs")) + one.runs
        newest: Document = {"totalRuns": Int64(total)}
        if one.newest is not None:
            newest["lastRunAt"] = one.newest
        updates.append({"q": {"_id": one.key}, "u": {"$max": newest, "$set": {"updatedAt": now}}})
    return updates


def build_marks(documents: Sequence[Document], decisions: Sequence[Decision]) -> Document:
    """Return a batch's decisions as the counter keeps them until the triggers are marked."""
    counted: list[str] = []
    others: list[list[Any]] = []
    accounts: dict[str, None] = {}
    for document, decision in zip(documents, decisions, strict=True):
        if decision.outcome is Outcome.COUNTED:
            counted.append(document["_id"])
            accounts[document["accountId"]] = None
        else:
            others.append([
                document["_id"], document["accountId"], decision.outcome.value, decision.run_id,
            ])  # fmt: skip
    return {"counted": counted, "accounts": list(accounts), "others": others}


def build_mark_updates(marks: Mapping[str, Any]) -> list[Document]:
    """Return the updates that mark a batch's triggers."""
    done = {"partition": "", "metadata": ""}
    updates: list[Document] = []
    if marks["counted"]:
        query = {"_id": {"$in": marks["counted"]}, "accountId": {"$in": marks["accounts"]}}
        change = {"$set": {"outcome": Outcome.COUNTED.value}, "$unset": done}
        updates.append({"q": query, "u": change, "multi": True})
    for trigger_id, account_id, outcome, run_id in marks["others"]:
        change = {"$set": {"outcome": outcome, "runId": run_id}, "$unset": done}
        updates.append({"q": {"_id": trigger_id, "accountId": account_id}, "u": change})
    return updates


def is_foreign_key(error: BaseException) -> bool:
    """Return whether a duplicate key is one of an index that is not ours: no conflict passes it."""
    if not isinstance(error, DuplicateKeyError):
        return False
    pattern = (error.details or {}).get("keyPattern")
    return isinstance(pattern, Mapping) and list(pattern) != ["_id"]


def _abort(session: ClientSession) -> None:
    try:
        session.abort_transaction()
    except PyMongoError:
        return

"""Who counts what: counters with leases, the partitions they own, and what is stuck in these.

A counter is one counting thread. Its document names an epoch and the session that it counts in;
every counting transaction writes that document under its epoch. Whoever finds a lease that has run
out ends the session, which frees the keys that it has locked, raises the epoch, so that nothing
the counter still writes can be committed, marks its last batch, and frees its partitions. A
counter that goes on after that finds its epoch gone and starts again.

    {_id: 0 to 15, owner: <counter> | null, stuck: [{automationId, reason, since, tries, retryAt}]}
    {_id: "counter:<id>", epoch, renewedAt, session, isDedicated, batch, host, pid}
"""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
from bson.binary import Binary
from pymongo import ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import BulkWriteError, OperationFailure

from tracking.ids import PARTITIONS, partition_of
from tracking.mongo.errors import Failure, classify
from tracking.mongo.transactions import kill_session

Document = dict[str, Any]

# With half a second between two looks, a dead counter is replaced within 3 s.
LEASE_SECONDS = 2.4
RENEW_SECONDS = 0.5
_PREFIX = "counter:"
_PARTITIONS = {"_id": {"$in": list(range(PARTITIONS))}}
_COUNTERS = {"_id": {"$gte": _PREFIX, "$lt": "counter;"}}
# Whether the lease of a counter has run out, by the server's clock alone.
IS_OVER = {"$lt": ["$renewedAt", {"$subtract": ["$$NOW", int(LEASE_SECONDS * 1000)]}]}
_RENEWAL = {"$currentDate": {"renewedAt": True}}


class Fenced(Exception):
    """The lease of this counter ran out, and its partitions are another one's."""


class Held(Exception):
    """An erasure is writing this counter's document; it lets go of it in a moment."""


class Stuck(msgspec.Struct, frozen=True):
    """An automation that cannot be counted for now, and why."""

    automation_id: str
    reason: str
    since: datetime
    tries: int
    retry_at: datetime


class Overview(msgspec.Struct, frozen=True):
    """The documents of all partitions and counters, as a counter found them."""

    partitions: list[Document]
    counters: list[Document]

    def list_dead(self) -> list[Document]:
        """Return the counters whose lease has run out."""
        return [one for one in self.counters if one["isOver"]]

    @property
    def has_dedicated(self) -> bool:
        """Whether there is a counter in a process that does nothing else."""
        return any(one.get("isDedicated") and not one["isOver"] for one in self.counters)

    def list_sharing(self) -> list[str]:
        """Return who shares the partitions: dedicated counters, or all where there is none."""
        alive = [one for one in self.counters if not one["isOver"]]
        dedicated = [one for one in alive if one.get("isDedicated")]
        return sorted(one["_id"] for one in dedicated or alive)


class Partitions:
    """The partitions of one counter. Used by its thread alone."""

    def __init__(self, database: Database[Document], *, is_dedicated: bool) -> None:
        self._collection = database["tracking_partitions"]
        self._client = database.client
        self._is_dedicated = is_dedicated
        self._epoch = 0
        self._renewed_at = 0.0
        self.counter_id: str | None = None
        self.owned: list[int] = []
        self.stuck: dict[str, Stuck] = {}

    # --- The lease ----------------------------------------------------------------------------

    def register(self, session_id: UUID) -> None:
        """Take part under a new name. `session_id` is what this counter will count in."""
        self._ensure_partitions()
        self.forget()
        counter_id, self._epoch = f"{_PREFIX}{uuid4().hex}", 1
        fields = {
            "epoch": self._epoch, "session": Binary.from_uuid(session_id),
            "isDedicated": self._is_dedicated, "host": socket.gethostname(), "pid": os.getpid(),
        }  # fmt: skip
        self._collection.update_one({"_id": counter_id}, {"$set": fields, **_RENEWAL}, upsert=True)
        self.counter_id = counter_id
        self._renewed_at = time.monotonic()

    def _ensure_partitions(self) -> None:
        present = {one["_id"] for one in self._collection.find(_PARTITIONS, {"_id": 1})}
        missing = [{"_id": n, "owner": None} for n in range(PARTITIONS) if n not in present]
        if missing:
            with suppress(BulkWriteError):  # another counter was first with some
                self._collection.insert_many(missing, ordered=False)

    def renew(self) -> None:
        """Extend the lease if it is time to. Raises Fenced."""
        now = time.monotonic()
        if self.counter_id is not None and now - self._renewed_at >= RENEW_SECONDS:
            if not self._collection.update_one(self._mine, _RENEWAL).matched_count:
                raise Fenced
            self._renewed_at = now

    def write_batch(self, marks: Mapping[str, Any], session: ClientSession) -> None:
        """Keep a batch's decisions, in its transaction. Raises Fenced and Held.

        Called before the transaction's other writes: a counter that was fenced locks nothing.
        """
        now = time.monotonic()
        change = {"$set": {"batch": marks}, **_RENEWAL}
        try:
            updated = self._collection.update_one(self._mine, change, session=session)
        except OperationFailure as error:
            if classify(error) is Failure.CONFLICT:
                raise Held from error
            raise
        if not updated.matched_count:
            raise Fenced
        self._renewed_at = now

    def start_epoch(self, session_id: UUID) -> Document | None:
        """Rule out every transaction under way; return the decisions of the last one committed.

        The counter goes on in another session. Raises Fenced.
        """
        if self.counter_id is None:
            return None
        change = {"$inc": {"epoch": 1}, "$set": {"session": Binary.from_uuid(session_id)}}
        document = self._collection.find_one_and_update(
            self._mine, {**change, **_RENEWAL}, {"batch": 1, "epoch": 1},
            return_document=ReturnDocument.AFTER,
        )  # fmt: skip
        if document is None:
            raise Fenced
        self._epoch = document["epoch"]
        return document.get("batch")

    def leave(self) -> None:
        """Free everything at once, on a clean stop. The last batch must be marked."""
        if self.counter_id is not None:
            self._free(self.counter_id, self._epoch)
        self.forget()

    def forget(self) -> None:
        """Own nothing any more."""
        self.counter_id, self.owned, self.stuck = None, [], {}

    @property
    def _mine(self) -> Document:
        return {"_id": self.counter_id, "epoch": self._epoch}

    def _free(self, counter_id: str, epoch: int) -> None:
        self._collection.update_many({"owner": counter_id}, {"$set": {"owner": None}})
        self._collection.delete_one({"_id": counter_id, "epoch": epoch})

    # --- Other counters -----------------------------------------------------------------------

    def look(self) -> Overview:
        """Return the owners of the partitions, and then the counters that there are."""
        # In this order: an owner of the first read is in the second, unless it is gone.
        partitions = list(self._collection.find(_PARTITIONS).sort("_id", 1))
        fields = {"epoch": 1, "session": 1, "isDedicated": 1, "isOver": IS_OVER}
        return Overview(partitions, list(self._collection.find(_COUNTERS, fields)))

    def fence(self, dead: Mapping[str, Any]) -> Document | None:
        """Stop a counter whose lease is over; return its document, None if it need not be.

        Safe where several do it at once, and where the counter goes on after all.
        """
        # First: a write of its open transaction would lock its document.
        session_id = dead["session"]
        kill_session(
            self._client,
            session_id.as_uuid() if isinstance(session_id, Binary) else session_id,
        )
        query = {"_id": dead["_id"], "epoch": dead["epoch"], "$expr": IS_OVER}
        return self._collection.find_one_and_update(
            query, {"$inc": {"epoch": 1}}, return_document=ReturnDocument.AFTER
        )

    def remove(self, fenced: Mapping[str, Any]) -> None:
        """Free what a fenced counter owned. Its last batch must be marked."""
        self._free(fenced["_id"], fenced["epoch"])

    def rebalance(self, overview: Overview) -> bool:
        """Take or give back partitions until this counter has its share; return if any changed.

        Must be called between batches, when the last one is marked.
        """
        sharing = overview.list_sharing()
        if self.counter_id not in sharing:
            raise Fenced
        share, rest = divmod(PARTITIONS, len(sharing))
        share += sharing.index(self.counter_id) < rest
        known = {one["_id"] for one in overview.counters}
        mine, free = [], []
        for one in overview.partitions:
            owner = one.get("owner")
            if owner == self.counter_id:
                mine.append(one["_id"])
            elif owner not in known:  # None, or gone: one that stood still took it afterwards
                free.append((one["_id"], owner))
        for number in mine[share:]:
            self._change_owner(number, self.counter_id, None)
        del mine[share:]
        for number, owner in free:
            if len(mine) < share and self._change_owner(number, owner, self.counter_id):
                mine.append(number)
        before, self.owned = self.owned, sorted(mine)
        self.stuck = {
            stuck.automation_id: stuck
            for one in overview.partitions if one["_id"] in mine
            for stuck in map(parse_stuck, one.get("stuck") or ())
        }  # fmt: skip
        return self.owned != before

    def _change_owner(self, number: int, before: str | None, after: str | None) -> bool:
        query = {"_id": number, "owner": before}
        return bool(self._collection.update_one(query, {"$set": {"owner": after}}).matched_count)

    # --- What is stuck ------------------------------------------------------------------------

    def park(self, stuck: Stuck) -> None:
        """Note that an automation is stuck. Raises Fenced."""
        self._write_stuck(stuck.automation_id, [{"$literal": build_stuck(stuck)}])
        self.stuck[stuck.automation_id] = stuck

    def release(self, automation_id: str) -> None:
        """Note that an automation is counted again. Raises Fenced."""
        self._write_stuck(automation_id, [])
        del self.stuck[automation_id]

    def _write_stuck(self, automation_id: str, entries: list[Document]) -> None:
        others = {
            "$filter": {
                "input": {"$ifNull": ["$stuck", []]},
                "cond": {"$ne": ["$$this.automationId", {"$literal": automation_id}]},
            }
        }
        query = {"_id": partition_of(automation_id), "owner": self.counter_id}
        change = [{"$set": {"stuck": {"$concatArrays": [others, entries]}}}]
        if not self._collection.update_one(query, change).matched_count:
            raise Fenced


def build_stuck(stuck: Stuck) -> Document:
    """Return what a partition keeps of a stuck automation."""
    return {
        "automationId": stuck.automation_id, "reason": stuck.reason, "since": stuck.since,
        "tries": stuck.tries, "retryAt": stuck.retry_at,
    }  # fmt: skip


def parse_stuck(document: Mapping[str, Any]) -> Stuck:
    """Return a stuck automation as it is stored."""
    return Stuck(
        document["automationId"], document["reason"], document["since"], document["tries"],
        document["retryAt"],
    )  # fmt: skip


def list_stuck(database: Database[Document]) -> list[Stuck]:
    """Return every automation that cannot be counted for now, the longest stuck first."""
    found = database["tracking_partitions"].find({**_PARTITIONS, "stuck.0": {"$exists": True}})
    stuck = [parse_stuck(one) for partition in found for one in partition["stuck"]]
    return sorted(stuck, key=lambda one: one.since)


def retry_stuck(database: Database[Document], *, now: datetime) -> int:
    """Have every stuck automation tried again at once; return how many there are."""
    stuck = len(list_stuck(database))
    if stuck:
        database["tracking_partitions"].update_many(
            {**_PARTITIONS, "stuck.0": {"$exists": True}}, {"$set": {"stuck.$[].retryAt": now}}
        )
    return stuck

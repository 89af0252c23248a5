"""Who counts what: counters with leases, the partitions they own, and what is stuck in these.

A counter is one counting thread. It has a document with a lease on the server's clock, an epoch and
the session that it counts in; every counting transaction writes that document under its epoch.
Who finds a lease that is over raises the epoch, so that nothing the counter still writes can be
committed, ends its session, which frees the keys that it has locked, marks its last batch, and
frees its partitions. A counter that goes on after that finds its epoch gone and starts again.

    {_id: 0 to 15, owner: <counter> | null, stuck: [{automationId, reason, since, tries, retryAt}]}
    {_id: "counter:<id>", epoch, leaseUntil, session, isDedicated, batch, host, pid}
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
from bson.binary import Binary
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import BulkWriteError

from tracking.ids import PARTITIONS
from tracking.mongo.transactions import kill_session

Document = dict[str, Any]

LEASE_SECONDS = 3.0
_LEASE = {"$add": ["$$NOW", int(LEASE_SECONDS * 1000)]}
_PREFIX = "counter:"


class Fenced(Exception):
    """The lease of this counter was over, and its partitions are another one's."""


class Stuck(msgspec.Struct, frozen=True):
    """An automation that cannot be counted for now, and why."""

    automation_id: str
    reason: str
    since: datetime
    tries: int
    retry_at: datetime


class Partitions:
    """The partitions of one counter. Used by its thread alone."""

    def __init__(self, database: Database[Document], *, is_dedicated: bool) -> None:
        self._collection = database["tracking_partitions"]
        self._client = database.client
        self._is_dedicated = is_dedicated
        self.counter_id: str | None = None
        self._epoch = 1
        self.owned: list[int] = []
        self.stuck: dict[str, Stuck] = {}

    def ensure(self) -> None:
        """Create the documents of partitions that are missing."""
        present = {one["_id"] for one in self._collection.find(_ALL, {"_id": 1})}
        missing = [{"_id": n, "owner": None} for n in range(PARTITIONS) if n not in present]
        if missing:
            with suppress(BulkWriteError):  # another counter was first with some
                self._collection.insert_many(missing, ordered=False)

    def register(self, session_id: UUID) -> None:
        """Take part under a new name. `session_id` is what this counter will count in."""
        self.ensure()
        self.owned, self.stuck, self._epoch = [], {}, 1
        self.counter_id = f"{_PREFIX}{uuid4().hex}"
        self._collection.update_one(
            {"_id": self.counter_id},
            [{"$set": {
                "epoch": self._epoch, "leaseUntil": _LEASE, "isDedicated": self._is_dedicated,
                "session": Binary.from_uuid(session_id),
                "host": {"$literal": socket.gethostname()}, "pid": os.getpid(),
            }}],
            upsert=True,
        )  # fmt: skip

    def renew(self, *, session_id: UUID | None = None) -> None:
        """Extend the lease, and name the session where it is a new one. Raises Fenced."""
        change: Document = {"leaseUntil": _LEASE}
        if session_id is not None:
            change["session"] = Binary.from_uuid(session_id)
        query = {"_id": self.counter_id, "epoch": self._epoch}
        if not self._collection.update_one(query, [{"$set": change}]).matched_count:
            raise Fenced

    def write_batch(self, decisions: Document, session: ClientSession) -> None:
        """Keep a batch's decisions in its transaction, and extend the lease. Raises Fenced."""
        change = {"leaseUntil": _LEASE, "batch": {"$literal": decisions}}
        query = {"_id": self.counter_id, "epoch": self._epoch}
        found = self._collection.update_one(query, [{"$set": change}], session=session)
        if not found.matched_count:
            raise Fenced

    def find_batch(self) -> Document | None:
        """Return the decisions of the last batch that was committed, as they are stored."""
        document = self._collection.find_one({"_id": self.counter_id}, {"batch": 1})
        return document.get("batch") if document else None

    def rebalance(self) -> bool:
        """Take or give back partitions until this counter has its share; return whether it did.

        Dedicated counters share all; others only count where there is no dedicated one. Must be
        called between batches, when the last one is marked.
        """
        # Partitions first: who owns one is registered, unless it is gone.
        partitions = list(self._collection.find(_ALL).sort("_id", 1))
        counters = list(self._collection.find(_COUNTERS, {"isDedicated": 1}))
        known = {one["_id"] for one in counters}
        if self.counter_id not in known:
            raise Fenced
        dedicated = sorted(one["_id"] for one in counters if one.get("isDedicated"))
        sharing = dedicated or sorted(known)
        share = 0
        if self.counter_id in sharing:
            share, rest = divmod(PARTITIONS, len(sharing))
            share += sharing.index(self.counter_id) < rest
        mine = [one["_id"] for one in partitions if one.get("owner") == self.counter_id]
        before = self.owned
        for number in mine[share:]:
            self._give_back(number)
        mine = mine[:share]
        for one in partitions:
            owner = one.get("owner")
            if len(mine) < share and (owner is None or owner not in known):
                query = {"_id": one["_id"], "owner": owner}
                if self._collection.update_one(
                    query, {"$set": {"owner": self.counter_id}}
                ).matched_count:
                    mine.append(one["_id"])
        self.owned = sorted(mine)
        self.stuck = {
            stuck.automation_id: stuck
            for one in partitions if one["_id"] in mine
            for stuck in map(parse_stuck, one.get("stuck") or ())
        }  # fmt: skip
        return self.owned != before

    def _give_back(self, number: int) -> None:
        query = {"_id": number, "owner": self.counter_id}
        self._collection.update_one(query, {"$set": {"owner": None}})

    def park(self, number: int, stuck: Stuck) -> None:
        """Note that an automation of a partition is stuck."""
        self._collection.update_one(
            {"_id": number},
            [{"$set": {"stuck": {"$concatArrays": [
                _without(stuck.automation_id), [{"$literal": build_stuck(stuck)}],
            ]}}}],
        )  # fmt: skip
        self.stuck[stuck.automation_id] = stuck

    def release_stuck(self, number: int, automation_id: str) -> None:
        """Note that an automation is counted again."""
        self._collection.update_one({"_id": number}, [{"$set": {"stuck": _without(automation_id)}}])
        self.stuck.pop(automation_id, None)

    def list_dead(self) -> list[Document]:
        """Return the documents of counters whose lease is over."""
        return list(self._collection.find({**_COUNTERS, "$expr": {"$lt": ["$leaseUntil", "$$NOW"]}}))

    def fence(self, dead: Mapping[str, Any]) -> Document | None:
        """Stop a counter whose lease is over; return its document as it will stay, None if gone.

        Also safe where several do it at once, and where the counter is alive after all.
        """
        session_id = dead.get("session")
        # A UUID where the URI asks for a representation of them.
        if isinstance(session_id, Binary):
            kill_session(self._client, session_id.as_uuid())
        elif isinstance(session_id, UUID):
            kill_session(self._client, session_id)
        query = {"_id": dead["_id"], "leaseUntil": dead["leaseUntil"]}
        self._collection.update_one(query, {"$inc": {"epoch": 1}})
        expired = {"_id": dead["_id"], "$expr": {"$lt": ["$leaseUntil", "$$NOW"]}}
        return self._collection.find_one(expired)

    def bury(self, dead: Mapping[str, Any]) -> None:
        """Free what a fenced counter owned. Its last batch must be marked."""
        self._collection.update_many({"owner": dead["_id"]}, {"$set": {"owner": None}})
        self._collection.delete_one({"_id": dead["_id"], "epoch": dead["epoch"]})

    def leave(self) -> None:
        """Free everything at once, on a clean stop. The last batch must be marked."""
        if self.counter_id is not None:
            self._collection.update_many({"owner": self.counter_id}, {"$set": {"owner": None}})
            self._collection.delete_one({"_id": self.counter_id, "epoch": self._epoch})
        self.counter_id, self.owned, self.stuck = None, [], {}


_ALL = {"_id": {"$in": list(range(PARTITIONS))}}
_COUNTERS = {"_id": {"$gte": _PREFIX, "$lt": "counter;"}}


def _without(automation_id: str) -> Document:
    return {
        "$filter": {
            "input": {"$ifNull": ["$stuck", []]},
            "cond": {"$ne": ["$$this.automationId", {"$literal": automation_id}]},
        }
    }


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
    found = database["tracking_partitions"].find({**_ALL, "stuck.0": {"$exists": True}})
    stuck = [parse_stuck(one) for partition in found for one in partition["stuck"]]
    return sorted(stuck, key=lambda one: one.since)


def retry_stuck(database: Database[Document], *, now: datetime) -> int:
    """Have every stuck automation tried again at once; return how many there are."""
    stuck = len(list_stuck(database))
    if stuck:
        database["tracking_partitions"].update_many(
            {**_ALL, "stuck.0": {"$exists": True}}, {"$set": {"stuck.$[].retryAt": now}}
        )
    return stuck

"""The lease that gives each writing process a stripe, and the end of a dead writer's session.

A process killed inside a transaction leaves its keys locked until the server reaps the
transaction (a minute by default). Its lease in `tracking_writers` runs out after 3 s; whoever sees
that kills the session it names, which frees the keys at once
(https://www.mongodb.com/docs/manual/reference/command/killSessions/).
"""

import os
import socket
import threading
from typing import Any
from uuid import UUID, uuid4

from bson.binary import Binary
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from tracking.mongo.transactions import kill_session
from tracking.rollups.hours import STRIPES

LEASE_SECONDS = 3.0
HEARTBEAT_SECONDS = 1.0
_MOST_WRITERS = 256


class StripeLease:
    """One process's place among the writers: hold, renew, release, and bury the dead.

    Used by the flushing thread and by the one that renews; a lock keeps their writes in order.
    """

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._writers = database["tracking_writers"]
        self._client = database.client
        self._owner = uuid4().hex
        self._slot: int | None = None
        self._session_id: UUID | None = None
        self._chore_id: UUID | None = None
        self._abandoned: list[UUID] = []
        self._lock = threading.Lock()

    @property
    def stripe(self) -> int:
        """The stripe to write on: past eight writers they share, which costs retries only."""
        return (self._slot or 0) % STRIPES

    def is_lowest(self) -> bool:
        """Return whether this writer holds the lowest slot of all: it does the common chores."""
        first = self._writers.find_one({}, {"owner": 1}, sort=[("_id", 1)])
        return first is not None and first.get("owner") == self._owner

    def hold(self, session_id: UUID) -> None:
        """Name the flush session in the lease, before it writes; take a slot if there is none."""
        with self._lock:
            self._kill_abandoned()
            self._session_id = session_id
            self._renew()

    def name_session(self, session_id: UUID) -> None:
        """Name the session of another transaction of this process, before it writes."""
        with self._lock:
            if session_id != self._chore_id:
                self._chore_id = session_id
                self._renew()

    def abandon_session(self) -> None:
        """Note that the held session may have left a transaction open on the server.

        It is killed as soon as the server answers, and before the next session writes: else this
        process would lock itself and others out of the same keys.
        """
        if self._session_id is not None:
            self._abandoned.append(self._session_id)

    def renew(self) -> None:
        """Extend the lease; a lease that somebody took over meanwhile is taken anew."""
        with self._lock:
            self._kill_abandoned()
            if self._session_id is not None or self._chore_id is not None:
                self._renew()

    def _renew(self) -> None:
        if self._slot is not None:
            renewed = self._writers.update_one(
                {"_id": self._slot, "owner": self._owner}, [{"$set": self._lease()}]
            )
            if renewed.matched_count:
                return
        self._acquire()

    def _acquire(self) -> None:
        """Take the lowest slot that is free; the dead are buried first."""
        self.reap_expired()
        self._slot = None
        # A slot of our own was taken by a write whose reply was lost.
        others = {"owner": {"$ne": self._owner}}
        held = {writer["_id"] for writer in self._writers.find(others, {"_id": 1})}
        for slot in range(_MOST_WRITERS):
            if slot in held:
                continue
            try:
                self._writers.update_one(
                    {"_id": slot, "owner": self._owner}, [{"$set": self._lease()}], upsert=True
                )
            except DuplicateKeyError:
                continue  # somebody was faster
            self._slot = slot
            return

    def release(self) -> None:
        """Give the slot back, on a clean shutdown."""
        with self._lock:
            if self._slot is not None:
                self._writers.delete_one({"_id": self._slot, "owner": self._owner})
            self._slot = self._session_id = self._chore_id = None

    def reap_expired(self) -> int:
        """Kill the sessions of every writer whose lease ran out; return how many there were."""
        dead = list(self._writers.find({"$expr": {"$lt": ["$leaseUntil", "$$NOW"]}}))
        for writer in dead:
            for session_id in (writer.get("session"), writer.get("chore")):
                # A UUID where the URI asks for a representation of them.
                if isinstance(session_id, Binary):
                    kill_session(self._client, session_id.as_uuid())
                elif isinstance(session_id, UUID):
                    kill_session(self._client, session_id)
            # Only as it was read: a writer that came back has renewed it and stays.
            self._writers.delete_one(
                {
                    "_id": writer["_id"],
                    "owner": writer.get("owner"),
                    "leaseUntil": writer.get("leaseUntil"),
                }
            )
        return len(dead)

    def _kill_abandoned(self) -> None:
        while self._abandoned:
            kill_session(self._client, self._abandoned[0])
            del self._abandoned[0]

    def _lease(self) -> dict[str, Any]:
        return {
            "owner": self._owner,
            "session": self._session_id and Binary.from_uuid(self._session_id),
            "chore": self._chore_id and Binary.from_uuid(self._chore_id),
            "host": {"$literal": socket.gethostname()},
            "pid": os.getpid(),
            "leaseUntil": {"$add": ["$$NOW", int(LEASE_SECONDS * 1000)]},
        }

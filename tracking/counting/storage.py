"""Storing triggers: requests that arrive while an insert is under way share the next one.

One unordered insert is all that a delivery waits for. One thread per process sends it; request
threads queue a ticket and wait for its answers. There is no timer: a request alone is sent at once.
"""

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import bson
import msgspec
import pymongo
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database
from pymongo.errors import PyMongoError, WriteConcernError

from tracking.counting.metrics import BY_OUTCOME, STORE_FAILURES, STORE_SECONDS, WAITING
from tracking.exceptions import TrackingUnavailable
from tracking.ids import build_trigger_id, partition_of
from tracking.mongo.errors import DUPLICATE_KEY, Failure, classify
from tracking.runs import Outcome, Trigger

logger = logging.getLogger("tracking")

Document = dict[str, Any]

INSERT_EVENTS = 1000
# A message of MongoDB holds 48 MB, a document 16 MB.
INSERT_BYTES = 32 * 1024 * 1024
TRIGGER_BYTES = 15 * 1024 * 1024
QUEUE_EVENTS = 20_000
DEADLINE_SECONDS = 3.0

Answer = Outcome | TrackingUnavailable


class _Row(msgspec.Struct, frozen=True):
    """A trigger as it is sent, and what tells it from another's of the same id."""

    trigger_id: str
    account_id: str
    run_id: Any
    content: RawBSONDocument


class _Ticket:
    """The triggers of one request on their way into the database."""

    __slots__ = ("_answered", "answers", "deadline", "rows", "size")

    def __init__(self, rows: Sequence[_Row], deadline: float) -> None:
        self.rows = rows
        self.size = sum(len(row.content.raw) for row in rows)
        self.deadline = deadline
        self.answers: Sequence[Answer] = ()
        # A lock that the storing thread opens: an Event costs eight times as much.
        self._answered = threading.Lock()
        self._answered.acquire()

    def wait(self, seconds: float) -> bool:
        return self._answered.acquire(timeout=max(seconds, 0))

    def finish(self, answers: Sequence[Answer]) -> None:
        self.answers = answers
        self._answered.release()


class Storage:
    """Collects triggers into inserts. Thread-safe; one per process."""

    def __init__(self, database: Database[Document]) -> None:
        self._database = database
        self._pid = os.getpid()
        self._queue: deque[_Ticket] = deque()
        self._queued_events = 0
        self._wakeup = threading.Condition()
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def store(
        self, triggers: Sequence[Trigger], *, seconds: float = DEADLINE_SECONDS
    ) -> list[Outcome]:
        """Store triggers and return for each STORED, REDELIVERED or REJECTED, in order.

        When it returns, they are committed by a majority and journaled, those that were known
        before too. Raises TrackingUnavailable when that took longer than `seconds`: the caller may
        send the same triggers again.
        """
        deadline = time.monotonic() + seconds
        rows = [_encode(trigger) for trigger in triggers]
        stored = iter(self._store([row for row in rows if row is not None], deadline))
        outcomes = [Outcome.REJECTED if row is None else next(stored) for row in rows]
        for outcome in (Outcome.STORED, Outcome.REDELIVERED, Outcome.REJECTED):
            if number := outcomes.count(outcome):
                BY_OUTCOME[outcome].inc(number)
        return outcomes

    def _store(self, rows: Sequence[_Row], deadline: float) -> list[Outcome]:
        if not rows:
            return []
        ticket = _Ticket(rows, deadline)
        with self._wakeup:
            if self._is_closing:
                raise TrackingUnavailable("the process is shutting down")
            if self._queued_events and self._queued_events + len(rows) > QUEUE_EVENTS:
                raise TrackingUnavailable("too many events are waiting")
            self._start_thread()
            self._queue.append(ticket)
            self._queued_events += len(rows)
            self._wakeup.notify()
        if not ticket.wait(deadline - time.monotonic() + 0.05):
            raise TrackingUnavailable("the database did not answer in time")
        outcomes = []
        for answer in ticket.answers:
            if isinstance(answer, TrackingUnavailable):
                # A fresh one: threads whose triggers shared an insert share its answers.
                raise TrackingUnavailable(str(answer))
            outcomes.append(answer)
        return outcomes

    def close(self, *, seconds: float = 5.0) -> None:
        """Store what is queued and stop the thread."""
        if os.getpid() != self._pid:
            return  # at the end of a forked child: all of it belongs to the parent
        self.abandon()
        if self._thread is not None:
            self._thread.join(seconds)

    def abandon(self) -> None:
        """Let the thread end by itself, when its client is closed already."""
        with self._wakeup:
            self._is_closing = True
            self._wakeup.notify_all()
        atexit.unregister(self.close)

    def _start_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="tracking-storage", daemon=True)
            self._thread.start()
            atexit.register(self.close)

    def _run(self) -> None:
        while tickets := self._take():
            rows = [row for ticket in tickets for row in ticket.rows]
            started = time.perf_counter()
            answers: list[Answer]
            try:
                answers = list(self._insert(rows, max(ticket.deadline for ticket in tickets)))
            except PyMongoError as error:
                answers = [TrackingUnavailable(classify(error).value)] * len(rows)
            except Exception as error:  # a bug of ours must not end the only storing thread
                logger.exception("❌ [TRACKING] Triggers not stored: %s", type(error).__name__)
                answers = [TrackingUnavailable(Failure.OTHER.value)] * len(rows)
            STORE_SECONDS.observe(time.perf_counter() - started)
            for ticket in tickets:
                ticket.finish(answers[: len(ticket.rows)])
                del answers[: len(ticket.rows)]

    def _take(self) -> list[_Ticket]:
        """Wait for work and return the next insert's tickets; none when all is done at the end."""
        with self._wakeup:
            while not self._queue:
                if self._is_closing:
                    return []
                self._wakeup.wait()
            tickets: list[_Ticket] = []
            events = size = 0
            while self._queue:
                events += len(self._queue[0].rows)
                size += self._queue[0].size
                if tickets and (events > INSERT_EVENTS or size > INSERT_BYTES):
                    break
                tickets.append(self._queue.popleft())
            self._queued_events -= sum(len(ticket.rows) for ticket in tickets)
            WAITING.set(self._queued_events)
            return tickets

    def _insert(self, rows: Sequence[_Row], deadline: float) -> list[Outcome]:
        """Insert each trigger once, asking an unavailable server again until `deadline`."""
        is_again = False
        while True:
            try:
                return self._insert_once(rows, deadline, is_again=is_again)
            except PyMongoError as error:
                failure = classify(error)
                if failure is Failure.DOCUMENT:
                    break
                STORE_FAILURES.labels(failure.name.lower()).inc()
                if time.monotonic() + 0.05 >= deadline:
                    raise
            is_again = True
            time.sleep(0.02)
        # The server refuses a message with a document that is nested too deep as a whole.
        if len(rows) == 1:
            logger.error("❌ [TRACKING] Trigger cannot be stored: %s", failure.value)
            return [Outcome.REJECTED]
        middle = len(rows) // 2
        return [*self._insert(rows[:middle], deadline), *self._insert(rows[middle:], deadline)]

    def _insert_once(
        self, rows: Sequence[_Row], deadline: float, *, is_again: bool
    ) -> list[Outcome]:
        command = {
            "insert": "automation_triggers",
            "documents": [row.content for row in rows],
            "ordered": False,
            "writeConcern": {"w": "majority", "j": True},
        }
        outcomes = [Outcome.STORED] * len(rows)
        known: list[int] = []
        with pymongo.timeout(max(deadline - time.monotonic(), 0.05)):
            reply = self._database.command(command)
            if failed := reply.get("writeConcernError"):
                raise WriteConcernError(failed.get("errmsg", ""), failed.get("code"), failed)
            for error in reply.get("writeErrors", ()):
                index = error["index"]
                if error.get("code") == DUPLICATE_KEY and "_id" in error.get("keyPattern", {}):
                    outcomes[index] = Outcome.REDELIVERED
                    known.append(index)
                else:
                    logger.error("❌ [TRACKING] Trigger cannot be stored: %s", error.get("code"))
                    outcomes[index] = Outcome.REJECTED
            if is_again and known:
                own = self._find_own([rows[index] for index in known])
                for index in known:
                    if rows[index].run_id in own:
                        outcomes[index] = Outcome.STORED
        return outcomes

    def _find_own(self, rows: Sequence[_Row]) -> set[Any]:
        """Return the run ids of what an attempt of ours stored whose reply was lost."""
        query = {
            "_id": {"$in": [row.trigger_id for row in rows]},
            "accountId": {"$in": list({row.account_id for row in rows})},
        }
        found = self._database["automation_triggers"].find(query, {"runId": 1})
        return {one.get("runId") for one in found}


def _encode(trigger: Trigger) -> _Row | None:
    """Return a trigger as it is sent; None if MongoDB could not hold it."""
    # A continuation belongs to the run that its button names.
    run_id = trigger.run_id if trigger.continues is not None else ObjectId()
    try:
        document = build_trigger(trigger, run_id=run_id)
        content = bson.encode(document)
    except Exception as error:  # noqa: BLE001 - whatever it holds, it is refused alone
        logger.error("❌ [TRACKING] Trigger cannot be stored: %s", type(error).__name__)
        return None
    if len(content) > TRIGGER_BYTES:
        logger.error("❌ [TRACKING] Trigger cannot be stored: %d bytes", len(content))
        return None
    return _Row(document["_id"], trigger.account_id, run_id, RawBSONDocument(content))


def build_trigger(trigger: Trigger, *, run_id: Any) -> Document:
    """Return the document of `automation_triggers`: what counting and sending need to know.

    `partition` is there while the trigger is not counted, `expireAt` from then on.
    """
    document: Document = {
        "_id": build_trigger_id(trigger.account_id, trigger.kind, trigger.event_id),
        "accountId": trigger.account_id,
        "automationId": trigger.automation_id,
        "automationKey": trigger.automation_key,
        "workspaceId": trigger.workspace_id,
        "triggerType": trigger.trigger_type,
        "userId": trigger.user_id,
        "createdAt": trigger.arrived_at,
        "runId": run_id,
        "metadata": trigger.metadata,
        "partition": partition_of(trigger.automation_id),
    }
    if trigger.occurred_at is not None:
        document["occurredAt"] = trigger.occurred_at
    if trigger.person_unknown:
        document["personUnknown"] = True
    if trigger.continues is not None:
        document["continues"] = trigger.continues
    if trigger.source is not None:
        document["source"] = trigger.source
    if trigger.send is not None:
        document["send"] = trigger.send
        document["state"] = "queued"
        document["nextAt"] = trigger.arrived_at
    return document

"""Storing triggers: requests that arrive while an insert is under way share the next one.

One unordered insert is all that a delivery waits for. One thread per process sends it; request
threads queue a ticket and wait for its answers. There is no timer: a request alone is sent at once.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import pymongo
from bson import ObjectId
from pymongo.database import Database
from pymongo.errors import DocumentTooLarge, PyMongoError

from tracking.counting.documents import build_trigger
from tracking.counting.metrics import BY_OUTCOME, STORE_FAILURES, STORE_SECONDS, WAITING
from tracking.exceptions import TrackingUnavailable
from tracking.mongo.errors import Failure, classify
from tracking.runs import Outcome, Trigger

logger = logging.getLogger("tracking")

Document = dict[str, Any]

INSERT_EVENTS = 1000
QUEUE_EVENTS = 20_000
DEADLINE_SECONDS = 3.0
_DUPLICATE_KEY = 11000

Answer = Outcome | TrackingUnavailable | None


class _Ticket:
    """The triggers of one request on their way into the database."""

    __slots__ = ("_answered", "answers", "deadline", "documents")

    def __init__(self, documents: Sequence[Document], deadline: float) -> None:
        self.documents = documents
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
        documents = [
            build_trigger(one, run_id=one.run_id if one.continues is not None else ObjectId())
            for one in triggers
        ]
        ticket = _Ticket(documents, time.monotonic() + seconds)
        with self._wakeup:
            if self._is_closing:
                raise TrackingUnavailable("the process is shutting down")
            if self._queued_events and self._queued_events + len(documents) > QUEUE_EVENTS:
                raise TrackingUnavailable("too many events are waiting")
            self._start_thread()
            self._queue.append(ticket)
            self._queued_events += len(documents)
            self._wakeup.notify()
        if not ticket.wait(seconds + 0.05):
            raise TrackingUnavailable("the database did not answer in time")
        outcomes = [answer for answer in ticket.answers if isinstance(answer, Outcome)]
        if len(outcomes) < len(triggers):
            # A fresh one: threads whose triggers shared an insert share its answers.
            reasons = [str(one) for one in ticket.answers if isinstance(one, TrackingUnavailable)]
            raise TrackingUnavailable(next(iter(reasons), "nothing was stored"))
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
            documents = [document for ticket in tickets for document in ticket.documents]
            deadline = max(ticket.deadline for ticket in tickets)
            started = time.perf_counter()
            try:
                answers = self.insert(documents, deadline=deadline)
            except Exception as error:  # a bug of ours must not end the only storing thread
                logger.exception("❌ [TRACKING] Triggers not stored")
                answers = [TrackingUnavailable(type(error).__name__)] * len(documents)
            STORE_SECONDS.observe(time.perf_counter() - started)
            position = 0
            for ticket in tickets:
                end = position + len(ticket.documents)
                ticket.finish(answers[position:end])
                position = end

    def _take(self) -> list[_Ticket]:
        """Wait for work and return the next insert's tickets; none when all is done at the end."""
        with self._wakeup:
            while not self._queue:
                if self._is_closing:
                    return []
                self._wakeup.wait()
            tickets: list[_Ticket] = []
            events = 0
            while self._queue:
                more = len(self._queue[0].documents)
                if tickets and events + more > INSERT_EVENTS:
                    break
                tickets.append(self._queue.popleft())
                events += more
            self._queued_events -= events
            WAITING.set(self._queued_events)
            return tickets

    def insert(self, documents: Sequence[Document], *, deadline: float) -> list[Answer]:
        """Insert each document once and return an answer for each, in order.

        What breaks one document refuses that one alone; an unavailable server is asked again until
        `deadline`, on `time.monotonic`.
        """
        is_again = False
        while True:
            try:
                answers = self._insert_once(documents, deadline, is_again=is_again)
            except Exception as error:  # noqa: BLE001 - sorted by classify, bugs included
                failure = classify(error)
                STORE_FAILURES.labels(failure.name.lower()).inc()
                is_broken = failure is Failure.DOCUMENT or isinstance(error, DocumentTooLarge)
                if is_broken and len(documents) > 1:
                    middle = len(documents) // 2
                    return [
                        *self.insert(documents[:middle], deadline=deadline),
                        *self.insert(documents[middle:], deadline=deadline),
                    ]
                if is_broken:
                    logger.error("❌ [TRACKING] Trigger cannot be stored: %s", type(error).__name__)
                    return [Outcome.REJECTED]
                if time.monotonic() + 0.05 >= deadline:
                    return [TrackingUnavailable(failure.value)] * len(documents)
                is_again = True
                time.sleep(0.02)
            else:
                for outcome in (Outcome.STORED, Outcome.REDELIVERED, Outcome.REJECTED):
                    if number := answers.count(outcome):
                        BY_OUTCOME[outcome].inc(number)
                return answers

    def _insert_once(
        self, documents: Sequence[Document], deadline: float, *, is_again: bool
    ) -> list[Answer]:
        command = {
            "insert": "automation_triggers",
            "documents": documents,
            "ordered": False,
            "writeConcern": {"w": "majority", "j": True},
        }
        with pymongo.timeout(max(deadline - time.monotonic(), 0.05)):
            reply = self._database.command(command)
            if failed := reply.get("writeConcernError"):
                raise pymongo.errors.WriteConcernError(
                    failed.get("errmsg", ""), failed.get("code"), failed
                )
            answers: list[Answer] = [Outcome.STORED] * len(documents)
            known: list[int] = []
            for error in reply.get("writeErrors", ()):
                if error.get("code") == _DUPLICATE_KEY and "_id" in error.get("keyPattern", {}):
                    answers[error["index"]] = Outcome.REDELIVERED
                    known.append(error["index"])
                else:
                    logger.error("❌ [TRACKING] Trigger cannot be stored: %s", error.get("code"))
                    answers[error["index"]] = Outcome.REJECTED
            if is_again and known:
                self._find_own(documents, known, answers)
        return answers

    def _find_own(
        self, documents: Sequence[Document], known: Sequence[int], answers: list[Answer]
    ) -> None:
        """Tell what an attempt of ours stored, whose reply was lost, from a redelivery."""
        query = {
            "_id": {"$in": [documents[index]["_id"] for index in known]},
            "accountId": {"$in": list({documents[index]["accountId"] for index in known})},
        }
        try:
            found = self._database["automation_triggers"].find(query, {"runId": 1})
            stored = {one["_id"]: one.get("runId") for one in found}
        except PyMongoError:
            return  # they are stored; by whom is a matter of statistics
        for index in known:
            if stored.get(documents[index]["_id"]) == documents[index]["runId"]:
                answers[index] = Outcome.STORED

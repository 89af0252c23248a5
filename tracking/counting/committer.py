"""Group commit: deliveries that arrive while a flush runs form the next one.

One thread per process flushes; request threads queue a ticket and wait for its answer. There is no
timer: a request alone is flushed at once. What a dead writer keeps locked is parked and tried again
until its deadline, so that it never stops the others.
"""

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from datetime import UTC, datetime
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from tracking.counting.flush import Answer, Flusher
from tracking.counting.metrics import WAITING, note_flush
from tracking.counting.stripes import HEARTBEAT_SECONDS
from tracking.exceptions import TrackingUnavailable
from tracking.rollups.folding import Folder
from tracking.runs import Outcome, Trigger

logger = logging.getLogger("tracking")

FLUSH_EVENTS = 1000
QUEUE_EVENTS = 20_000
DEADLINE_SECONDS = 3.0
FOLD_SECONDS = 60.0
_PARK_SECONDS = 0.1


class Ticket:
    """One delivery's triggers on their way through a flush."""

    __slots__ = ("_answered", "abandoned", "answers", "context", "deadline", "retry_at", "triggers")

    def __init__(self, triggers: Sequence[Trigger], deadline: float) -> None:
        self.triggers = triggers
        self.deadline = deadline
        self.answers: list[Answer] = [None] * len(triggers)
        # A lock that the flushing thread opens: an Event costs eight times as much.
        self._answered = threading.Lock()
        self._answered.acquire()
        self.retry_at = 0.0
        self.abandoned = False
        # What the flushing thread says of a delivery, it says in its request's name.
        self.context = copy_context()

    def wait(self, seconds: float) -> bool:
        """Wait for the answers, as the one thread that does; return whether they are there."""
        return self._answered.acquire(timeout=seconds)

    def finish(self) -> None:
        """Let the waiting thread go on; again, when a bug stopped a flush half-way, is nothing."""
        if self._answered.locked():
            self._answered.release()


class Committer:
    """Collects tickets into flushes. Thread-safe; one per process."""

    def __init__(
        self,
        flusher: Flusher,
        *,
        folder: Folder | None = None,
        on_late: Callable[[Sequence[Trigger], Sequence[Outcome]], None] = lambda *_: None,
    ) -> None:
        self._flusher = flusher
        self._folder = folder
        self._on_late = on_late
        self._pid = os.getpid()
        self._queue: deque[Ticket] = deque()
        self._parked: list[Ticket] = []
        self._was_parked = False
        self._queued_events = 0
        self._wakeup = threading.Condition()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def submit(
        self, triggers: Sequence[Trigger], *, seconds: float = DEADLINE_SECONDS
    ) -> list[Outcome]:
        """Wait until `triggers` are committed and return their outcomes, in order.

        Raises TrackingUnavailable when that did not happen within `seconds`: the caller may send
        the same triggers again, those that were stored after all come back as redelivered.
        """
        ticket = Ticket(triggers, time.monotonic() + seconds)
        with self._wakeup:
            if self._closing.is_set():
                raise TrackingUnavailable("the process is shutting down")
            if self._queued_events and self._queued_events + len(triggers) > QUEUE_EVENTS:
                raise TrackingUnavailable("too many events are waiting")
            self._start_threads()
            self._queue.append(ticket)
            self._queued_events += len(triggers)
            WAITING.set(self._queued_events)
            self._wakeup.notify()
        if not ticket.wait(seconds + 0.05):
            ticket.abandoned = True
            if not ticket.wait(0):
                raise TrackingUnavailable("the database did not answer in time")
        outcomes = [answer for answer in ticket.answers if isinstance(answer, Outcome)]
        if len(outcomes) < len(triggers):
            self._report_late(ticket)
            # A fresh one: threads whose deliveries shared a flush share its answers.
            reasons = [str(one) for one in ticket.answers if isinstance(one, TrackingUnavailable)]
            raise TrackingUnavailable(next(iter(reasons), "another writer holds these keys"))
        return outcomes

    def find_key(self, automation_id: Any) -> Any:
        """Return the typed `_id` of the automation that `automation_id` names."""
        return self._flusher.find_key(automation_id)

    def abandon(self) -> None:
        """Let the threads end by themselves: the client they use is closed already."""
        with self._wakeup:
            self._closing.set()
            self._wakeup.notify_all()
        atexit.unregister(self.close)

    def close(self, *, seconds: float = 5.0) -> None:
        """Flush what is queued, stop the threads and give the stripe back."""
        if os.getpid() != self._pid:
            return  # at the end of a forked child: all of it belongs to the parent
        with self._wakeup:
            self._closing.set()
            self._wakeup.notify_all()
        for thread in self._threads:
            thread.join(seconds)
        self._flusher.close()
        atexit.unregister(self.close)

    def _start_threads(self) -> None:
        if not self._threads:
            for target in (self._run, self._keep_lease, self._fold_closed_hours):
                thread = threading.Thread(target=target, name=f"tracking{target.__name__}")
                thread.daemon = True
                thread.start()
                self._threads.append(thread)
            atexit.register(self.close)

    def _run(self) -> None:
        while True:
            tickets = self._take()
            if tickets is None:
                return
            try:
                self._flush(tickets)
            except Exception as error:  # a bug of ours must not end the only flushing thread
                logger.exception("❌ [TRACKING] Flush failed")
                self._finish(tickets, TrackingUnavailable(type(error).__name__))

    def _take(self) -> list[Ticket] | None:
        """Wait for work and return the next flush's tickets; None when all is done at the end."""
        with self._wakeup:
            while True:
                now = time.monotonic()
                due = [ticket for ticket in self._parked if ticket.retry_at <= now]
                if self._queue or due:
                    break
                if self._closing.is_set() and not self._parked:
                    return None
                wait = min((t.retry_at for t in self._parked), default=now + 3600) - now
                self._wakeup.wait(wait)
            # A parked ticket goes alone, and in turn with the queue: in a flush with others it
            # would split them again and again (540 events/s instead of 8700, measured).
            if due and not (self._queue and self._was_parked):
                self._was_parked = True
                self._parked.remove(due[0])
                return [due[0]]
            self._was_parked = False
            tickets: list[Ticket] = []
            events = 0
            while self._queue:
                ticket = self._queue[0]
                if tickets and events + len(ticket.triggers) > FLUSH_EVENTS:
                    break
                tickets.append(self._queue.popleft())
                events += len(ticket.triggers)
            self._queued_events -= events
            WAITING.set(self._queued_events)
            return tickets

    def _flush(self, tickets: list[Ticket]) -> None:
        now = time.monotonic()
        live = [ticket for ticket in tickets if ticket.deadline > now]
        late = [ticket for ticket in tickets if ticket.deadline <= now]
        self._finish(late, TrackingUnavailable("waited too long"))
        open_parts = [
            (ticket, [i for i, answer in enumerate(ticket.answers) if answer is None])
            for ticket in live
        ]
        triggers = [ticket.triggers[i] for ticket, part in open_parts for i in part]
        if not triggers:
            self._finish(live, None)
            return
        # The newest ticket's time: an old one that runs out of it is told so by its own wait.
        started = time.perf_counter()
        given = self._flusher.flush(triggers, deadline=max(ticket.deadline for ticket in live))
        note_flush(given, events=len(triggers), seconds=time.perf_counter() - started)
        answers = iter(given)
        for ticket, part in open_parts:
            for index in part:
                ticket.answers[index] = next(answers)
            is_locked = any(answer is None for answer in ticket.answers)
            if is_locked and time.monotonic() + _PARK_SECONDS < ticket.deadline:
                ticket.retry_at = time.monotonic() + _PARK_SECONDS
                with self._wakeup:
                    self._parked.append(ticket)
            else:
                self._finish([ticket], None)

    def _finish(self, tickets: Sequence[Ticket], error: TrackingUnavailable | None) -> None:
        for ticket in tickets:
            if error is not None:
                ticket.answers = [error if answer is None else answer for answer in ticket.answers]
            ticket.finish()
            if ticket.abandoned:
                self._report_late(ticket)

    def _report_late(self, ticket: Ticket) -> None:
        """Report what was committed though the answer is, or was, that the database is away."""
        pairs = [
            (trigger, answer)
            for trigger, answer in zip(ticket.triggers, ticket.answers, strict=True)
            if isinstance(answer, Outcome)
        ]
        if pairs:
            triggers, outcomes = [one for one, _ in pairs], [one for _, one in pairs]
            # A copy: the request's own thread may be in the context at this moment.
            ticket.context.copy().run(self._on_late, triggers, outcomes)

    def _keep_lease(self) -> None:
        while not self._closing.is_set():
            with self._surviving("lease"), pymongo.timeout(HEARTBEAT_SECONDS):
                self._flusher.lease.renew()
                self._flusher.lease.reap_expired()
            self._closing.wait(HEARTBEAT_SECONDS)

    def _fold_closed_hours(self) -> None:
        """Keep reads small: the writer on the lowest slot folds for all of them."""
        while not self._closing.wait(FOLD_SECONDS):
            with self._surviving("folding"), pymongo.timeout(FOLD_SECONDS):
                if self._folder is not None and self._flusher.lease.is_lowest():
                    self._folder.fold_all(now=datetime.now(UTC))

    @contextmanager
    def _surviving(self, chore: str) -> Iterator[None]:
        """Let a chore fail and be done again: its thread lasts as long as the process."""
        try:
            yield
        except PyMongoError as error:
            logger.debug("%s failed: %r", chore, error)
        except Exception:
            logger.exception("❌ [TRACKING] Failed: %s", chore)

"""Sends webhooks as Meta does: signed, in batches, again until accepted or too old."""

import heapq
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from automations.demo.simulation.bodies import Element, build_body, sign_body
from automations.demo.simulation.connection import Connection

# Meta retries at once, then less and less often for 36 hours; this takes half a minute.
RETRY_SECONDS = (0.1, 0.3, 1.0, 3.0, 8.0, 18.0)
_THREADS = 2
_MOST_ELEMENTS = 50
_TIMEOUT_SECONDS = 10.0
# When, the attempt, the body, how many elements.
_Work = tuple[float, int, bytes, int]


class Counts(msgspec.Struct):
    """Deliveries: accepted, tried again, and given up."""

    accepted: int = 0
    retried: int = 0
    dropped: int = 0


class WebhookSender:
    """Posts elements to `url`, from threads of its own; without a URL it drops them.

    Meta sends some updates twice: here every `double_every`th element, 0 is none.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        read_clock: Callable[[], datetime],
        retry_seconds: Sequence[float],
        double_every: int,
    ) -> None:
        self.counts = Counts()
        self._url, self._secret = url, secret
        self._read_clock = read_clock
        self._retry_seconds = retry_seconds
        self._double_every = double_every
        self._sent = 0
        self._changed = threading.Condition()
        self._new: list[Element] = []
        self._waiting: list[_Work] = []
        self._open = 0  # elements that are not accepted and not dropped
        self._is_stopping = False
        self._threads = [
            threading.Thread(target=self._run, daemon=True, name=f"sandbox-webhooks-{number}")
            for number in range(_THREADS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def set_target(self, url: str, secret: str) -> None:
        with self._changed:
            self._url, self._secret = url, secret

    def send(self, element: Element) -> None:
        with self._changed:
            if self._url:
                self._sent += 1
                copies = 2 if self._double_every and self._sent % self._double_every == 0 else 1
                self._new += [element] * copies
                self._open += copies
                self._changed.notify_all()  # `wait` waits here too

    def wait(self, seconds: float) -> bool:
        """Wait until everything was accepted or dropped; return whether it was."""
        with self._changed:
            return self._changed.wait_for(lambda: self._open == 0, seconds)

    def _run(self) -> None:
        connections: dict[str, Connection] = {}
        while (work := self._take()) is not None:
            _, attempt, body, size = work
            url = self._url
            if url not in connections:
                connections[url] = Connection(url, timeout=_TIMEOUT_SECONDS)
            try:
                status = connections[url].post(body, signature=sign_body(body, self._secret)).status
            except OSError:
                status = 0
            is_accepted = 200 <= status < 300
            with self._changed:
                if not is_accepted and attempt < len(self._retry_seconds):
                    self.counts.retried += 1
                    due = time.monotonic() + self._retry_seconds[attempt]
                    heapq.heappush(self._waiting, (due, attempt + 1, body, size))
                else:
                    self.counts.accepted += is_accepted
                    self.counts.dropped += not is_accepted
                    self._open -= size
                self._changed.notify_all()
        for connection in connections.values():
            connection.close()

    def _take(self) -> _Work | None:
        with self._changed:
            while not self._is_stopping:
                if self._waiting and self._waiting[0][0] <= time.monotonic():
                    return heapq.heappop(self._waiting)
                if self._new:
                    batch = self._new[:_MOST_ELEMENTS]
                    del self._new[:_MOST_ELEMENTS]
                    sent_at_ms = int(self._read_clock().timestamp() * 1000)
                    return 0.0, 0, build_body(batch, sent_at_ms=sent_at_ms), len(batch)
                wait = self._waiting[0][0] - time.monotonic() if self._waiting else None
                self._changed.wait(wait)
            return None

"""Sends webhooks as Meta does: signed, in batches, again until accepted or too old."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from automations.demo.simulation.bodies import Element, build_body, sign_body
from automations.demo.simulation.connection import Connection

# Meta retries at once, then less and less often for 36 hours; this takes half a minute.
RETRY_SECONDS = (0.1, 0.3, 1.0, 3.0, 8.0, 18.0)
_THREADS = 4
_MOST_ELEMENTS = 50
_TIMEOUT = 10.0


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
        self.counts: Counter[str] = Counter()  # deliveries: accepted, retried, dropped
        self._url, self._secret = url, secret
        self._read_clock = read_clock
        self._retry_seconds = retry_seconds
        self._double_every = double_every
        self._sent = 0
        self._changed = threading.Condition()
        self._new: list[Element] = []
        self._open = 0  # elements that are not accepted and not dropped
        self._idle: list[Connection] = []
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(_THREADS, "sandbox-webhooks")

    def stop(self) -> None:
        with self._changed:
            self._stop.set()
        self._pool.shutdown(cancel_futures=True)
        self.set_target("", "")

    def set_target(self, url: str, secret: str) -> None:
        with self._changed:
            self._url, self._secret = url, secret
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    def send(self, element: Element) -> None:
        with self._changed:
            if not self._url or self._stop.is_set():
                return
            self._sent += 1
            copies = 2 if self._double_every and self._sent % self._double_every == 0 else 1
            self._new += [element] * copies
            self._open += copies
            self._pool.submit(self._deliver)

    def wait(self, seconds: float) -> bool:
        """Wait until everything was accepted or dropped; return whether it was."""
        with self._changed:
            return self._changed.wait_for(lambda: self._open == 0, seconds)

    def _deliver(self) -> None:
        """Post what is new, unless an earlier call has taken it."""
        with self._changed:
            batch = self._new[:_MOST_ELEMENTS]
            del self._new[:_MOST_ELEMENTS]
        if not batch:
            return
        body = build_body(batch, sent_at_ms=int(self._read_clock().timestamp() * 1000))
        is_accepted = self._post(body)
        for pause in self._retry_seconds:
            if is_accepted or self._stop.wait(pause):
                break
            self.counts["retried"] += 1
            is_accepted = self._post(body)
        with self._changed:
            self.counts["accepted"] += is_accepted
            self.counts["dropped"] += not is_accepted
            self._open -= len(batch)
            self._changed.notify_all()

    def _post(self, body: bytes) -> bool:
        with self._changed:
            url, signature = self._url, sign_body(body, self._secret)
            connection = self._idle.pop() if self._idle else Connection(url, timeout=_TIMEOUT)
        try:
            status = connection.post(body, signature=signature).status
        except OSError:
            status = 0
        with self._changed:
            if url == self._url:
                self._idle.append(connection)
            else:
                connection.close()
        return 200 <= status < 300

"""The traffic of a chaos run: never paused, and what was not acknowledged is kept for later."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence

from automations.demo.simulation import SimulatedDelivery, SimulatedEvent
from automations.demo.simulation.bodies import sign_body
from automations.demo.simulation.connection import Connection
from automations.demo.simulation.sending import build_webhook_url

_TIMEOUT_SECONDS = 15.0
# After a delivery that nobody took: the load goes on, but does not burn through the events.
_PAUSE_SECONDS = 0.1
_LAST = 100


class Load:
    """Threads that post deliveries, `rate` events a second, until they are told to stop.

    Each delivery goes to one server and, when that fails, at once to the other, as Meta's first
    retry does. After that it is put aside.
    """

    def __init__(
        self,
        deliveries: Iterable[SimulatedDelivery],
        urls: Sequence[str],
        secret: str,
        *,
        connections: int,
        rate: float,
    ) -> None:
        self.acknowledged: dict[tuple[str, str, str], SimulatedEvent] = {}
        self.acknowledged_at: list[float] = []
        self.put_aside: list[SimulatedDelivery] = []
        self.last: deque[SimulatedDelivery] = deque(maxlen=_LAST)
        self.answers: Counter[str] = Counter()
        self.slowest = 0.0
        self._deliveries: Iterator[SimulatedDelivery] = iter(deliveries)
        self._urls = [build_webhook_url(url) for url in urls]
        self._secret = secret
        self._rate = rate
        self._events_taken = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(number,), daemon=True)
            for number in range(connections)
        ]

    @property
    def rude_answers(self) -> list[str]:
        """Answers that are neither yes, nor "later", nor the silence of a killed process."""
        return sorted(self.answers.keys() - {"200", "503", "none"})

    def start(self) -> None:
        """Begin; the clock of the stalls starts here."""
        self.started_at = time.monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the deliveries that are on their way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.ended_at = time.monotonic()

    def _work(self, number: int) -> None:
        connections = [Connection(url, timeout=_TIMEOUT_SECONDS) for url in self._urls]
        turn = number
        while not self._stop.is_set():
            delivery = self._take()
            turn += 1
            if not self._post(delivery, connections, turn):
                with self._lock:
                    self.put_aside.append(delivery)
                self._stop.wait(_PAUSE_SECONDS)
        for connection in connections:
            connection.close()

    def _take(self) -> SimulatedDelivery:
        """Return the next delivery when it is due; what is late comes all at once."""
        with self._lock:
            delivery = next(self._deliveries)
            due_at = self.started_at + self._events_taken / self._rate
            self._events_taken += len(delivery.events)
        self._stop.wait(max(due_at - time.monotonic(), 0.0))
        return delivery

    def _post(self, delivery: SimulatedDelivery, connections: list[Connection], turn: int) -> bool:
        signature = sign_body(delivery.body, self._secret)
        for offset in range(len(connections)):
            connection = connections[(turn + offset) % len(connections)]
            began = time.monotonic()
            try:
                status = str(connection.post(delivery.body, signature=signature).status)
            except OSError:
                status = "none"
            self._note(delivery, status, began)
            if status == "200":
                return True
        return False

    def _note(self, delivery: SimulatedDelivery, status: str, began: float) -> None:
        now = time.monotonic()
        with self._lock:
            self.answers[status] += 1
            if status != "none":
                self.slowest = max(self.slowest, now - began)
            if status == "200":
                self.acknowledged_at.append(now)
                self.last.append(delivery)
                for event in delivery.events:
                    self.acknowledged[event.account_id, event.kind, event.event_id] = event

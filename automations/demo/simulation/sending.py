"""Sending deliveries over keep-alive connections, from threads, at a rate, with Meta's retries."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from random import Random
from urllib.parse import urlsplit

import msgspec

from automations.demo.simulation.bodies import sign_body
from automations.demo.simulation.connection import Connection
from automations.demo.simulation.personas import make_random
from automations.demo.simulation.plan import SimulatedDelivery
from automations.demo.simulation.report import Report

WEBHOOK_PATH = "/api/webhooks/instagram"
# Meta retries at once and then less and less often. The first wait is short and the longest
# bounded, so that a restarted server is found soon.
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 3.0
_PROGRESS_EVERY = 0.1
_TIMEOUT_SECONDS = 10.0


def send_deliveries(
    deliveries: Iterable[SimulatedDelivery],
    urls: Sequence[str],
    secret: str,
    *,
    seed: int = 0,
    connections: int = 4,
    rate: float = 0.0,
    retry_for: float = 0.0,
    stop: threading.Event | None = None,
    on_progress: Callable[[int], object] = lambda _: None,
) -> Report:
    """Send the deliveries, signed with `secret`, to the URLs in turn; return what came back.

    `rate` is events per second (0: as fast as possible). `on_progress` is called from this thread
    with the number of events posted so far. `stop`, or an interrupt (Ctrl-C), ends the run early.

    A delivery that one URL gives no answer to goes to the next. One that got no answer, 429 or 5xx
    is sent again for `retry_for` seconds; when no URL answered anything for as long, the run ends.
    Raises ValueError for an invalid URL.
    """
    sender = _Sender(
        deliveries=iter(deliveries),
        urls=[build_webhook_url(url) for url in urls],
        secret=secret,
        rate=rate,
        retry_for=retry_for,
        random=make_random("waits", seed),
        report=Report(seed=seed),
        stop=stop or threading.Event(),
    )
    sender.connect()  # raises for an invalid URL
    with ThreadPoolExecutor(connections, "simulate") as pool:
        threads = [pool.submit(sender.work, number) for number in range(connections)]
        try:
            while wait(threads, _PROGRESS_EVERY).not_done:
                on_progress(sender.events_taken)
        except KeyboardInterrupt:
            sender.stop.set()
    for thread in threads:
        thread.result()  # raises what ended it
    sender.report.seconds = time.perf_counter() - sender.started_at
    return sender.report


def build_webhook_url(url: str) -> str:
    """Return the webhook's URL on a server given by its address alone; others stay as they are."""
    return url if urlsplit(url).path not in ("", "/") else url.rstrip("/") + WEBHOOK_PATH


class _Sender(msgspec.Struct, kw_only=True):
    """What the threads of one run share: the deliveries, the pace, and the figures."""

    deliveries: Iterator[SimulatedDelivery]
    urls: list[str]
    secret: str
    rate: float
    retry_for: float
    random: Random
    report: Report
    stop: threading.Event
    lock: threading.Lock = msgspec.field(default_factory=threading.Lock)
    started_at: float = msgspec.field(default_factory=time.perf_counter)
    answered_at: float = msgspec.field(default_factory=time.perf_counter)
    events_taken: int = 0

    def work(self, number: int) -> None:
        connections = self.connect()
        try:
            while (delivery := self._take()) is not None:
                self._send(delivery, connections, number)
                number += 1
        except BaseException:
            self.stop.set()
            raise
        finally:
            for connection in connections:
                connection.close()

    def connect(self) -> list[Connection]:
        return [Connection(url, timeout=_TIMEOUT_SECONDS) for url in self.urls]

    def _take(self) -> SimulatedDelivery | None:
        """Return the next delivery when its time has come, None when there is none."""
        if self.stop.is_set():
            return None
        with self.lock:
            delivery = next(self.deliveries, None)
            if delivery is None:
                return None
            due = self.events_taken / self.rate if self.rate else 0.0
            self.events_taken += len(delivery.events)
        pause = due - (time.perf_counter() - self.started_at)
        return None if pause > 0 and self.stop.wait(pause) else delivery

    def _send(self, delivery: SimulatedDelivery, connections: list[Connection], turn: int) -> None:
        signature = sign_body(delivery.body, self.secret + "?" * delivery.is_forged)
        give_up_at = time.perf_counter() + self.retry_for
        longest, silent, retries = _FIRST_WAIT, 0, 0
        while True:
            connection = connections[(turn + silent + retries) % len(connections)]
            status, retry_after = self._post(connection, delivery.body, signature)
            if not status.isdigit() and silent < len(connections) - 1:
                silent += 1
                continue  # another URL may answer
            is_final = status.isdigit() and status != "429" and not status.startswith("5")
            if is_final or time.perf_counter() >= give_up_at:
                break
            pause = max(min(retry_after, _LONGEST_WAIT), longest * (0.5 + self.random.random()))
            if self.stop.wait(pause):
                break
            longest = min(longest * 2, _LONGEST_WAIT)
            silent, retries = 0, retries + 1
        if not status.isdigit() and time.perf_counter() - self.answered_at > self.retry_for > 0:
            self.stop.set()
        with self.lock:
            self.report.add(delivery, status=status, retries=retries)

    def _post(self, connection: Connection, body: bytes, signature: str) -> tuple[str, float]:
        """Return the status and Retry-After, or the name of the failure."""
        sent_at = time.perf_counter()
        try:
            answer = connection.post(body, signature=signature)
        except OSError as error:
            return type(error).__name__, 0.0
        self.answered_at = time.perf_counter()
        self.report.latencies_ms.append((self.answered_at - sent_at) * 1000)
        return str(answer.status), answer.retry_after

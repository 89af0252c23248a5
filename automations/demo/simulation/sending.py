"""Sending deliveries over keep-alive connections, from threads, at a rate, with Meta's retries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from random import Random
from typing import TypedDict, Unpack
from urllib.parse import urlsplit

from automations.demo.simulation.bodies import sign_body
from automations.demo.simulation.connection import Connection
from automations.demo.simulation.generation import generate_deliveries
from automations.demo.simulation.people import make_random
from automations.demo.simulation.plan import Plan, SimulatedDelivery
from automations.demo.simulation.report import Report, Tally, build_report

WEBHOOK_PATH = "/api/webhooks/instagram"
# Meta retries at once and then less and less often; here the first wait is short and the longest
# bounded, so that a restarted server is found soon.
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 3.0
_PROGRESS_EVERY = 0.1


class SendOptions(TypedDict, total=False):
    """The options of `send_deliveries`, by the same names."""

    connections: int
    rate: float
    duration: float | None
    is_retrying: bool
    retry_for: float
    timeout: float
    keep_events: bool
    stop: threading.Event | None
    on_progress: Callable[[int], None] | None


def run(plan: Plan, urls: Sequence[str], secret: str, **options: Unpack[SendOptions]) -> Report:
    """Generate the plan's deliveries, send them as `send_deliveries` does, and report."""
    return send_deliveries(generate_deliveries(plan), urls, secret, seed=plan.seed, **options)


def send_deliveries(
    deliveries: Iterable[SimulatedDelivery],
    urls: Sequence[str],
    secret: str,
    *,
    seed: int = 0,
    connections: int = 4,
    rate: float = 0.0,
    duration: float | None = None,
    is_retrying: bool = False,
    retry_for: float = 60.0,
    timeout: float = 10.0,
    keep_events: bool = True,
    stop: threading.Event | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Report:
    """Send these deliveries, signed with `secret`, to the URLs in turn; return what came back.

    `rate` is events a second (0: as fast as possible); `duration`, `retry_for` and `timeout` are
    seconds. `stop` ends the run early from another thread; `on_progress` is called from this
    thread with the number of events posted so far.

    A delivery that one URL gives no answer to goes to the next. With `is_retrying`, one that got
    no answer, 429 or 5xx is sent again for `retry_for` seconds; when nobody answered anything for
    as long, the run ends. With `keep_events` the report holds every acknowledged event and every
    delivery that was not. An interrupt (Ctrl-C) ends the run early; the report is what came back
    until then. Raises ValueError for a URL that is none.
    """
    sender = _Sender(
        deliveries,
        [build_webhook_url(url) for url in urls],
        secret,
        rate=rate,
        is_retrying=is_retrying,
        retry_for=retry_for,
        timeout=timeout,
        keep_events=keep_events,
        random=make_random("waits", seed),
    )
    started_at = time.perf_counter()
    deadline = None if duration is None else started_at + duration
    threads = [
        threading.Thread(target=sender.work, args=(number,), name=f"simulate-{number}", daemon=True)
        for number in range(connections)
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(_PROGRESS_EVERY)
                if on_progress is not None:
                    on_progress(sender.events_taken)
                is_late = deadline is not None and time.perf_counter() >= deadline
                if is_late or (stop is not None and stop.is_set()):
                    sender.stop.set()
    except KeyboardInterrupt:
        sender.stop.set()
        for thread in threads:
            thread.join()
    if sender.errors:
        raise sender.errors[0]
    return build_report(sender.tallies, seed=seed, seconds=time.perf_counter() - started_at)


def build_webhook_url(url: str) -> str:
    """Return the webhook's URL on a server given by its address alone; others stay as they are."""
    return url if urlsplit(url).path not in ("", "/") else url.rstrip("/") + WEBHOOK_PATH


class _Sender:
    """What the threads of one run share: the deliveries, the pace, and the tallies."""

    def __init__(
        self,
        deliveries: Iterable[SimulatedDelivery],
        urls: Sequence[str],
        secret: str,
        *,
        rate: float,
        is_retrying: bool,
        retry_for: float,
        timeout: float,
        keep_events: bool,
        random: Random,
    ) -> None:
        if not urls:
            raise ValueError("There is no URL to send to.")
        for url in urls:
            Connection(url, timeout=timeout)
        self._deliveries: Iterator[SimulatedDelivery] = iter(deliveries)
        self._urls = urls
        self._secret = secret
        self._rate = rate
        self._retry_for = retry_for if is_retrying else 0.0
        self._timeout = timeout
        self._keep_events = keep_events
        self._random = random
        self._lock = threading.Lock()
        self._started_at = self._answered_at = time.perf_counter()
        # Set when the run is over for every thread, whoever found out.
        self.stop = threading.Event()
        self.events_taken = 0
        self.tallies: list[Tally] = []
        self.errors: list[BaseException] = []

    def work(self, number: int) -> None:
        """Send deliveries until there are no more, from one thread with its own connections."""
        tally = Tally(keep_events=self._keep_events)
        self.tallies.append(tally)
        connections = [Connection(url, timeout=self._timeout) for url in self._urls]
        turn = number
        try:
            while (delivery := self._take()) is not None:
                self._send(delivery, connections, turn, tally)
                turn += 1
        except Exception as error:  # noqa: BLE001 - the caller's thread raises it again
            self.errors.append(error)
            self.stop.set()
        finally:
            for connection in connections:
                connection.close()

    def _take(self) -> SimulatedDelivery | None:
        """Return the next delivery when its time has come, None when there is none."""
        if self.stop.is_set():
            return None
        with self._lock:
            delivery = next(self._deliveries, None)
            if delivery is None:
                return None
            due = self.events_taken / self._rate if self._rate else 0.0
            self.events_taken += len(delivery.events)
        wait = due - (time.perf_counter() - self._started_at)
        if wait > 0 and self.stop.wait(wait):
            return None
        return delivery

    def _send(
        self, delivery: SimulatedDelivery, connections: list[Connection], turn: int, tally: Tally
    ) -> None:
        secret = self._secret + "?" if delivery.is_forged else self._secret
        signature = sign_body(delivery.body, secret)
        give_up_at = time.perf_counter() + self._retry_for
        wait, retries = _FIRST_WAIT, 0
        while True:
            status, retry_after = self._try_each(delivery.body, signature, connections, turn, tally)
            is_final = status.isdigit() and not (status == "429" or status.startswith("5"))
            if is_final or time.perf_counter() >= give_up_at:
                break
            pause = max(min(retry_after, _LONGEST_WAIT), wait * (0.5 + self._random.random()))
            if self.stop.wait(pause):
                break
            wait = min(wait * 2, _LONGEST_WAIT)
            retries += 1
            turn += 1
        if not status.isdigit() and time.perf_counter() - self._answered_at > self._retry_for > 0:
            self.stop.set()
        tally.add(delivery, status=status, retries=retries)

    def _try_each(
        self,
        body: bytes,
        signature: str,
        connections: list[Connection],
        turn: int,
        tally: Tally,
    ) -> tuple[str, float]:
        """Return the first answer any URL gives, or the name of the last failure."""
        failure = ""
        for offset in range(len(connections)):
            connection = connections[(turn + offset) % len(connections)]
            sent_at = time.perf_counter()
            try:
                answer = connection.post(body, signature=signature)
            except OSError as error:
                failure = type(error).__name__
                continue
            self._answered_at = time.perf_counter()
            tally.latencies_ms.append((self._answered_at - sent_at) * 1000)
            return str(answer.status), answer.retry_after
        return failure, 0.0

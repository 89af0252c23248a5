"""Sending: signatures, retries, more than one URL, and what the report says."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from automations.demo.simulation import Plan, Report, Target, run
from automations.demo.simulation.sending import build_webhook_url

SECRET = "app-secret"
TARGETS = (
    Target(kind="comment", account_id="17841400000000001", keywords=("link",)),
    Target(kind="dm", account_id="17841400000000001", keywords=("price",)),
)
Answerer = Callable[[int, bytes, str], int]


@contextmanager
def receiver(answer: Answerer) -> Iterator[tuple[str, list[bytes]]]:
    """A server whose answer to POST number n is answer(n, body, signature)."""
    bodies: list[bytes] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            assert self.path == "/api/webhooks/instagram"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                number = len(bodies)
                bodies.append(body)
            status = answer(number, body, self.headers["X-Hub-Signature-256"])
            if status == 0:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", "2")
            if status == 503:
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", bodies
        finally:
            server.shutdown()
            thread.join()


def verify(number: int, body: bytes, signature: str) -> int:
    expected = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return 200 if hmac.compare_digest(expected, signature) else 403


def identities(report: Report) -> set[str]:
    return {event.event_id for event in report.acknowledged}


def test_everything_is_signed_and_acknowledged_once_in_the_figures() -> None:
    with receiver(verify) as (url, bodies):
        report = run(Plan(targets=TARGETS, events=200, bad_signatures=0.2), [url], SECRET)
    assert report.is_as_expected
    assert report.events_sent == report.events_acknowledged == len(identities(report)) == 200
    assert set(report.kinds) == {"comment", "dm"}
    assert report.statuses == {"200": report.deliveries}
    assert report.forged > 0
    assert report.forged_accepted == 0
    assert len(bodies) == report.deliveries + report.forged
    assert report.events_posted > 200
    assert report.latency_ms is not None
    assert 0 < report.latency_ms.p50 <= report.latency_ms.p99 <= report.latency_ms.max


def test_a_forged_delivery_that_is_accepted_shows() -> None:
    with receiver(lambda *_: 200) as (url, _):
        report = run(Plan(targets=TARGETS, events=50, bad_signatures=0.5), [url], SECRET)
    assert report.forged_accepted == report.forged > 0
    assert not report.is_as_expected


def test_refused_deliveries_are_kept_to_be_sent_again() -> None:
    def refuse_odd(number: int, body: bytes, signature: str) -> int:
        return 503 if number % 2 else 200

    plan = Plan(targets=TARGETS, events=60, redeliveries=0, batch=2)
    with receiver(refuse_odd) as (url, _):
        report = run(plan, [url], SECRET, connections=1)
    assert report.statuses == {"200": 15, "503": 15}
    assert report.events_acknowledged == 30
    assert len(report.unacknowledged) == 15
    assert not report.is_as_expected


def test_a_redelivery_acknowledges_its_events_too() -> None:
    seen: set[bytes] = set()

    def refuse_first(number: int, body: bytes, signature: str) -> int:
        is_first = body not in seen
        seen.add(body)
        return 503 if is_first else 200

    plan = Plan(targets=TARGETS, events=40, redeliveries=1, batch=1)
    with receiver(refuse_first) as (url, _):
        report = run(plan, [url], SECRET, connections=1)
    assert report.events_acknowledged > 0
    assert len(report.unacknowledged) >= 40


def test_retry_goes_on_until_everything_is_acknowledged() -> None:
    def refuse_first_ones(number: int, body: bytes, signature: str) -> int:
        return (503, 0, 200)[min(number, 2)]

    with receiver(refuse_first_ones) as (url, _):
        report = run(Plan(targets=TARGETS, events=5), [url], SECRET, is_retrying=True)
    assert report.is_as_expected
    assert report.retries >= 1


def test_retry_is_bounded() -> None:
    plan = Plan(targets=TARGETS, events=1, redeliveries=0)
    with receiver(lambda *_: 503) as (url, bodies):
        report = run(plan, [url], SECRET, is_retrying=True, retry_for=0.4)
    assert report.statuses == {"503": 1}
    assert 2 <= len(bodies) <= 6


def test_403_is_final() -> None:
    plan = Plan(targets=TARGETS, events=1, redeliveries=0)
    with receiver(verify) as (url, bodies):
        report = run(plan, [url], "another secret", is_retrying=True)
    assert report.statuses == {"403": 1}
    assert len(bodies) == 1


def test_a_dead_url_is_retried_on_the_next() -> None:
    with receiver(verify) as (dead, _):
        pass
    with receiver(verify) as (url, _), receiver(verify) as (other, bodies):
        report = run(Plan(targets=TARGETS, events=60, batch=1), [dead, url, other], SECRET)
    assert report.is_as_expected
    assert bodies


def test_nobody_there_is_said_by_name() -> None:
    with receiver(verify) as (dead, _):
        pass
    report = run(Plan(targets=TARGETS, events=3, redeliveries=0, batch=1), [dead], SECRET)
    assert report.statuses == {"ConnectionRefusedError": 3}
    assert report.latency_ms is None


def test_retry_ends_the_run_when_nobody_ever_answers() -> None:
    with receiver(verify) as (dead, _):
        pass
    plan = Plan(targets=TARGETS, events=500, batch=1)
    report = run(plan, [dead], SECRET, is_retrying=True, retry_for=0.3)
    assert report.deliveries <= 8
    assert report.events_acknowledged == 0


def test_rate_and_duration_are_kept() -> None:
    plan = Plan(targets=TARGETS, events=None, batch=1)
    with receiver(verify) as (url, _):
        report = run(plan, [url], SECRET, rate=50, duration=0.6, keep_events=False)
    assert 15 <= report.events_posted <= 45
    assert report.is_as_expected
    assert report.acknowledged == ()


def test_stop_ends_a_run_and_progress_is_told() -> None:
    stop, told = threading.Event(), []

    def note(events: int) -> None:
        told.append(events)
        stop.set()

    plan = Plan(targets=TARGETS, events=None)
    with receiver(verify) as (url, _):
        report = run(plan, [url], SECRET, stop=stop, on_progress=note)
    assert told
    assert report.events_posted >= 1


def test_json_holds_the_figures() -> None:
    with receiver(verify) as (url, _):
        report = run(Plan(targets=TARGETS, events=20, seed=9), [url], SECRET)
    figures = json.loads(json.dumps(report.to_json()))
    assert figures["seed"] == 9
    assert figures["events"]["acknowledged"] == 20
    assert figures["statuses"]["200"] == figures["deliveries"]
    assert set(figures["latencyMs"]) == {"p50", "p95", "p99", "max"}


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/api/webhooks/instagram"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/api/webhooks/instagram"),
        ("https://example.test/hook", "https://example.test/hook"),
    ],
)
def test_a_server_alone_means_its_webhook(given: str, url: str) -> None:
    assert build_webhook_url(given) == url


def test_a_url_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a URL"):
        run(Plan(targets=TARGETS), ["localhost:8000"], SECRET)

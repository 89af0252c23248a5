import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from automations.demo.sandbox.http_server import Answer, HttpServer, Request
from automations.demo.simulation import Plan, Report, Target, generate_deliveries, send_deliveries

SECRET = "app-secret"
TARGETS = (
    Target(kind="comment", account_id="17841400000000001", keywords=("link",)),
    Target(kind="dm", account_id="17841400000000001", keywords=("price",)),
)
Answerer = Callable[[int, bytes, str], int]


class Receiver(HttpServer):
    """A server whose answer to POST number n is answer(n, body, signature); 0 is none."""

    def __init__(self, answer: Answerer) -> None:
        super().__init__(self._receive)
        self.bodies: list[bytes] = []
        self._answer = answer
        self._lock = threading.Lock()

    def _receive(self, request: Request) -> Answer | None:
        assert request.target == "/api/webhooks/instagram"
        with self._lock:
            number = len(self.bodies)
            self.bodies.append(request.body)
        status = self._answer(number, request.body, request.headers["x-hub-signature-256"])
        headers = {"Retry-After": "0"} if status == 503 else {}
        return Answer(status, "ok", headers) if status else None


def run(plan: Plan, urls: Sequence[str], secret: str = SECRET, **options: Any) -> Report:
    return send_deliveries(generate_deliveries(plan), urls, secret, seed=plan.seed, **options)


@pytest.fixture
def dead_url() -> str:
    with Receiver(verify) as receiver:
        return receiver.url


def verify(number: int, body: bytes, signature: str) -> int:
    expected = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return 200 if hmac.compare_digest(expected, signature) else 403


def test_everything_is_signed_and_acknowledged_once_in_the_figures() -> None:
    with Receiver(verify) as app:
        report = run(Plan(targets=TARGETS, events=200, bad_signatures=0.2, seed=9), [app.url])
    assert report.is_as_expected
    assert report.forged_accepted == 0
    assert len(app.bodies) == report.deliveries + report.forged
    figures = json.loads(json.dumps(report.to_json()))
    events = figures["events"]
    assert (figures["seed"], events["sent"], events["acknowledged"]) == (9, 200, 200)
    assert figures["statuses"] == {"200": figures["deliveries"]}
    assert set(figures["kinds"]) == {"comment", "dm"}
    times = figures["latencyMs"]
    assert 0 < times["p50"] <= times["p95"] <= times["p99"] <= times["max"]


def test_a_forged_delivery_that_is_accepted_shows() -> None:
    with Receiver(lambda *_: 200) as app:
        report = run(Plan(targets=TARGETS, events=50, bad_signatures=0.5), [app.url])
    assert report.forged_accepted == report.forged > 0
    assert not report.is_as_expected


def test_events_of_refused_deliveries_are_not_acknowledged() -> None:
    plan = Plan(targets=TARGETS, events=60, redeliveries=0, batch=2)
    with Receiver(lambda number, *_: 503 if number % 2 else 200) as app:
        report = run(plan, [app.url], connections=1)
    assert report.statuses == {"200": 15, "503": 15}
    assert report.acknowledged.total() == 30
    assert not report.is_as_expected


def test_retry_goes_on_until_everything_is_acknowledged() -> None:
    with Receiver(lambda number, *_: (503, 0, 200)[min(number, 2)]) as app:
        report = run(Plan(targets=TARGETS, events=5), [app.url], retry_for=60.0)
    assert report.is_as_expected
    assert report.retries >= 1


@pytest.mark.parametrize(("secret", "status"), [(SECRET, "503"), ("another secret", "403")])
def test_retry_is_bounded_and_403_is_final(secret: str, status: str) -> None:
    plan = Plan(targets=TARGETS, events=1, redeliveries=0)
    with Receiver(lambda *call: 503 if verify(*call) == 200 else 403) as app:
        report = run(plan, [app.url], secret, retry_for=0.4)
    assert report.statuses == {status: 1}
    assert len(app.bodies) in (range(2, 7) if status == "503" else [1])


def test_a_dead_url_is_retried_on_the_next(dead_url: str) -> None:
    with Receiver(verify) as app, Receiver(verify) as other:
        plan = Plan(targets=TARGETS, events=60, batch=1)
        report = run(plan, [dead_url, app.url, other.url])
    assert report.is_as_expected
    assert other.bodies


def test_retry_ends_the_run_when_nobody_ever_answers(dead_url: str) -> None:
    report = run(Plan(targets=TARGETS, events=500, batch=1), [dead_url], retry_for=0.3)
    assert report.deliveries <= 8
    assert report.statuses == {"ConnectionRefusedError": report.deliveries}
    assert report.to_json()["latencyMs"] is None


def test_the_rate_is_kept() -> None:
    plan = Plan(targets=TARGETS, events=30, redeliveries=0, batch=1)
    with Receiver(verify) as app:
        report = run(plan, [app.url], rate=50)
    assert 0.55 <= report.seconds <= 3
    assert report.is_as_expected

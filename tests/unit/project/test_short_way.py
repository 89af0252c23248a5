"""Meta's deliveries go straight to their view, everything else through all that serves browsers."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import close_caches
from django.core.exceptions import DisallowedHost
from django.core.handlers.base import reset_urlconf
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory

from project.requests import disconnect_databases
from project.webhook import WebhookMiddleware

PATH = "/api/webhooks/instagram"


def pass_on(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"passed on: {request.path}")


@pytest.mark.parametrize("path", [f"{PATH}/", f"{PATH}/data-deletion", "/login", "/healthz"])
def test_other_paths_are_passed_on(path: str) -> None:
    answer = WebhookMiddleware(pass_on)(RequestFactory().post(path))
    assert answer.content == f"passed on: {path}".encode()


def test_the_webhook_is_not() -> None:
    answer = WebhookMiddleware(pass_on)(RequestFactory().post(PATH))
    assert (answer.status_code, answer.content) == (403, b"Invalid signature")


def test_a_host_that_is_not_ours_is_refused() -> None:
    with pytest.raises(DisallowedHost):
        WebhookMiddleware(pass_on)(RequestFactory().get(PATH, headers={"host": "evil.example"}))
    assert Client().get(PATH, headers={"host": "evil.example"}).status_code == 400


def test_what_guards_every_answer_guards_this_one() -> None:
    client = Client()
    assert client.post(PATH, headers={"x-forwarded-proto": "http"}).status_code == 403
    answer = client.post(PATH)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Length"] == str(len(b"Invalid signature"))
    assert client.put(PATH).status_code == 405


def list_listeners(signal: Signal) -> list[Any]:
    return [receiver() for _, receiver, *_ in signal.receivers]


def test_no_database_or_cache_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for signal in (request_started, request_finished):
        monkeypatch.setattr(signal, "receivers", list(signal.receivers))
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)
    request_finished.connect(close_caches)
    disconnect_databases()
    assert list_listeners(request_started) == []
    assert list_listeners(request_finished) == [reset_urlconf]
    for signal in (request_started, request_finished):
        signal.sender_receivers_cache.clear()

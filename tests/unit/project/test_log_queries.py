"""No query string reaches a log: the verification's holds the verify token."""

from __future__ import annotations

import logging

from django.test import Client, RequestFactory

from project.logs import HideQueryStrings, JsonFormatter

SECRET = "test-verify-token"


def format_record(name: str, message: str, *args: object, **extra: object) -> str:
    record = logging.LogRecord(name, logging.WARNING, __file__, 1, message, args, None)
    vars(record).update(extra)
    assert HideQueryStrings().filter(record)
    return JsonFormatter().format(record)


def test_a_request_is_named_by_method_and_path() -> None:
    request = RequestFactory().get(f"/api/webhooks/instagram?hub.verify_token={SECRET}")
    line = format_record("django.request", "Forbidden: %s", request.path, request=request)
    assert SECRET not in line
    assert '"request":"GET /api/webhooks/instagram"' in line


def test_the_line_of_runserver_ends_at_the_path() -> None:
    line = format_record("django.server", '"%s" %s %s', f"GET /x?a={SECRET} HTTP/1.1", "403", "18")
    assert SECRET not in line
    assert "GET /x HTTP/1.1" in line


def test_a_socket_in_place_of_a_request_is_left_out() -> None:
    assert "request" not in format_record("django.server", "broken pipe", request=object())


def test_every_handler_has_the_filter() -> None:
    assert Client().get("/nowhere").status_code == 404
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            assert any(isinstance(one, HideQueryStrings) for one in handler.filters)

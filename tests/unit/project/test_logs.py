"""A log line is what the contract says it is, for people and for machines."""

import json
import logging
import logging.config
from typing import Any

import pytest
from django.test import Client, RequestFactory

from project.logs import BoundRefusals, HideQueryStrings, JsonFormatter, build_logging

LINE = "✅ [TRACKING] Automation run tracked: %s (%s)"
TOKEN = "test-verify-token"  # of the verification: no query string reaches a log


def build_record(message: str, *args: Any, **extra: Any) -> logging.LogRecord:
    logger = logging.getLogger("tracking.test")
    return logger.makeRecord(logger.name, logging.INFO, "f", 1, message, args, None, extra=extra)


def test_the_message_is_kept_verbatim() -> None:
    line = JsonFormatter().format(build_record(LINE, "a1", "main_dm"))
    assert '"message":"✅ [TRACKING] Automation run tracked: a1 (main_dm)"' in line
    assert "\n" not in line
    fields = json.loads(line)
    assert fields["level"] == "INFO"
    assert fields["logger"] == "tracking.test"
    assert fields["time"].endswith("+00:00")


def test_what_the_caller_adds_is_a_field_and_never_replaces_ours() -> None:
    fields = json.loads(JsonFormatter().format(build_record("m", events=3, level="x", obj={1})))
    assert fields["events"] == 3
    assert fields["level"] == "INFO"
    assert fields["obj"] == "{1}"


@pytest.mark.parametrize("value", ["\ud800", 2**70])
def test_what_json_cannot_hold_does_not_stop_the_line(value: Any) -> None:
    assert json.loads(JsonFormatter().format(build_record("m", odd=value)))["odd"] == value


def configure(*, as_json: bool) -> logging.Logger:
    """A logger that prints as the settings have it, and does not touch the tests' own."""
    config = build_logging(as_json=as_json)
    config["loggers"] = {"sample": {"handlers": ["stderr"], "level": "INFO", "propagate": False}}
    del config["root"]
    logging.config.dictConfig(config)
    return logging.getLogger("sample")


FORGED = (
    "u1\n2026-11-25 10:00:00,000 INFO    ✅ [TRACKING] Automation run tracked: forged (main_dm)",
    "u1\r\x1b[1A\x1b[2Kall is well",
    "u1\x9b2J\x85\u2028next\u202egnp",
    "u1\0\x07\x08\x7f",
)


@pytest.mark.parametrize("hostile", FORGED)
@pytest.mark.parametrize("as_json", [True, False])
def test_no_id_makes_a_line_of_its_own(as_json: bool, hostile: str, capfd: Any) -> None:
    logger = configure(as_json=as_json)
    logger.info("ℹ️ [TRACKING] Duplicate run skipped for user %s", hostile)
    try:
        raise ValueError(hostile)
    except ValueError:
        logger.exception("failed")
    printed = capfd.readouterr().err
    assert printed.startswith("{") is as_json
    lines = printed.split("\n")
    # One of each record; a traceback's own lines are part of its record, or indented.
    assert [line for line in lines[:-1] if not line.startswith("  ")] == [lines[0], lines[1]]
    assert "\x1b" not in printed
    assert "\r" not in printed
    if as_json:
        message = json.loads(lines[0])["message"]
        assert message == f"ℹ️ [TRACKING] Duplicate run skipped for user {hostile}"
    else:
        assert printed.replace("\n", "").isprintable()


def format_record(name: str, message: str, *args: object, **extra: object) -> str:
    record = logging.LogRecord(name, logging.WARNING, __file__, 1, message, args, None)
    vars(record).update(extra)
    assert HideQueryStrings().filter(record)
    return JsonFormatter().format(record)


def test_a_request_is_named_by_method_and_path() -> None:
    request = RequestFactory().get(f"/api/webhooks/instagram?hub.verify_token={TOKEN}")
    line = format_record("django.request", "Forbidden: %s", request.path, request=request)
    assert TOKEN not in line
    assert '"request":"GET /api/webhooks/instagram"' in line


def test_the_line_of_runserver_ends_at_the_path() -> None:
    line = format_record("django.server", '"%s" %s %s', f"GET /x?a={TOKEN} HTTP/1.1", "403", "18")
    assert TOKEN not in line
    assert "GET /x HTTP/1.1" in line


def test_a_socket_in_place_of_a_request_is_left_out() -> None:
    assert "request" not in format_record("django.server", "broken pipe", request=object())


def test_every_handler_has_the_filter() -> None:
    assert Client().get("/nowhere").status_code == 404
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            assert any(isinstance(one, HideQueryStrings) for one in handler.filters)


@pytest.mark.parametrize(
    ("name", "level", "is_bounded"),
    [
        ("automations.refusals", logging.WARNING, True),
        ("django.request", logging.WARNING, True),
        ("django.security.DisallowedHost", logging.ERROR, True),
        ("django.request", logging.ERROR, False),
        ("automations", logging.WARNING, False),
    ],
)
def test_lines_about_refused_requests_are_bounded(
    name: str, level: int, is_bounded: bool, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1.0]
    bound = BoundRefusals(lambda: now[0])
    record = logging.makeLogRecord({"name": name, "levelno": level, "msg": "refused"})
    kept = [bound.filter(record) for _ in range(1000)]
    assert sum(kept) == (60 if is_bounded else 1000)
    assert kept[:60] == [True] * 60
    now[0] += 60
    assert bound.filter(build_record("any line"))
    summary = ["⚠️ 940 more lines about refused requests were left out"]
    assert caplog.messages == (summary if is_bounded else [])
    assert bound.filter(record)

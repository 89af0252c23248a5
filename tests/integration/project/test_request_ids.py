"""A request has an id: in the answer, and in each line that is logged for it."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from pymongo.database import Database
from tracking.counting.committer import Committer

from project.logs import HideQueryStrings, JsonFormatter, request_id
from project.middleware import read_request_id
from tests.support.triggers import make_trigger
from tests.support.webhook_cases import PATH, build_automation, build_body, build_comment, sign
from tracking.exceptions import TrackingUnavailable
from tracking.runs import Outcome

MADE = re.compile(r"[0-9a-f]{16}")


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """What is logged as JSON."""
    found: list[dict[str, Any]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(json.loads(self.format(record)))

    handler = Handler()
    handler.setFormatter(JsonFormatter())
    handler.addFilter(HideQueryStrings())
    logging.getLogger().addHandler(handler)
    yield found
    logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize("given", ["abcdefgh", "f3b2.A-1_0", "a" * 64])
def test_a_well_formed_id_is_taken(client: Client, given: str) -> None:
    assert client.get("/healthz", headers={"x-request-id": given})["X-Request-Id"] == given


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "short",
        "a" * 65,
        "with space",
        "new\nline1",
        "quote\"'<b>",
        "émoji-éé",
        "a" * 9 + "\n",
    ],
)
def test_any_other_is_replaced(given: str | None) -> None:
    made = read_request_id(given)
    assert MADE.fullmatch(made)
    assert made != read_request_id(given)


def test_every_line_of_a_delivery_has_it(db: Database[Any], lines: list[dict[str, Any]]) -> None:
    db["automations"].insert_one(build_automation("a1"))
    person = {"id": "p\n1", "username": "x"}
    odd = [build_comment(number, **{"from": person}) for number in (2, 3)]
    body = build_body(build_comment(1), *odd, {"id": "broken", "from": 1})
    headers = {"X-Hub-Signature-256": sign(body), "X-Request-Id": "delivery-1"}
    response = Client().post(PATH, body, content_type="application/json", headers=headers)
    assert response["X-Request-Id"] == "delivery-1"
    own = [line for line in lines if line["logger"] in {"tracking", "automations"}]
    assert {line.get("request_id") for line in own} == {"delivery-1"}
    # The contract's lines stay verbatim, and an id that holds a line's end makes no line.
    messages = [line["message"] for line in own]
    assert "✅ [TRACKING] Automation run tracked: a1 (main_dm)" in messages
    assert "ℹ️ [TRACKING] Duplicate run skipped for user p\n1" in messages
    formatted = JsonFormatter().format(
        logging.makeLogRecord({"msg": "user %s", "args": ('x\n{"forged": 1}\r',)})
    )
    assert not re.search(r"[\r\n]", formatted)


def test_a_line_of_django_about_the_answer_has_it(
    lines: list[dict[str, Any]], client: Client
) -> None:
    client.get("/nowhere?token=secret", headers={"x-request-id": "lost-page"})
    [line] = [line for line in lines if line["logger"] == "django.request"]
    assert line["request_id"] == "lost-page"
    assert "secret" not in json.dumps(line)


def test_outside_of_a_request_there_is_none(lines: list[dict[str, Any]], client: Client) -> None:
    client.get("/healthz")
    logging.getLogger("tracking").warning("alone")
    assert "request_id" not in lines[-1]


def test_what_the_flushing_thread_says_late_has_the_id_of_its_request() -> None:
    said: list[tuple[str, str]] = []
    may_go = threading.Event()

    class SlowFlusher:
        lease: Any = None

        def flush(self, triggers: Any, *, deadline: float) -> list[Outcome]:
            may_go.wait(10)
            return [Outcome.COUNTED] * len(triggers)

    committer = Committer(
        SlowFlusher(),  # type: ignore[arg-type]
        on_late=lambda *_: said.append((request_id.get(), threading.current_thread().name)),
    )
    committer._keep_lease = lambda: None  # type: ignore[method-assign]
    token = request_id.set("delivery-2")
    with pytest.raises(TrackingUnavailable):
        committer.submit([make_trigger()], seconds=0.05)
    request_id.reset(token)
    may_go.set()
    deadline = time.monotonic() + 10
    while not said and time.monotonic() < deadline:
        time.sleep(0.01)
    committer.abandon()
    assert said == [("delivery-2", "tracking_run")]

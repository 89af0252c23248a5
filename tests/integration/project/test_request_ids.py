"""A request has an id: in the answer, and in each line that is logged for it."""

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from pymongo.database import Database

from project.logs import HideQueryStrings, JsonFormatter
from project.middleware import read_request_id
from tests.support.uncounted import count_everything
from tests.support.webhook_cases import PATH, build_automation, build_body, build_comment, sign

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


def test_the_lines_of_a_delivery_have_it(db: Database[Any], lines: list[dict[str, Any]]) -> None:
    db["automations"].insert_one(build_automation("a1"))
    person = {"id": "p\n1", "username": "x"}
    odd = [build_comment(number, **{"from": person}) for number in (2, 3)]
    body = build_body(build_comment(1), *odd, {"id": "broken", "from": 1})
    headers = {"X-Hub-Signature-256": sign(body), "X-Request-Id": "delivery-1"}
    response = Client().post(PATH, body, content_type="application/json", headers=headers)
    assert response["X-Request-Id"] == "delivery-1"
    [letter] = [line for line in lines if "dead letter" in line["message"]]
    assert letter["request_id"] == "delivery-1"
    # The contract's lines stay verbatim, and an id that holds a line's end makes no line.
    count_everything(db)
    messages = [line["message"] for line in lines]
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

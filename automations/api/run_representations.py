"""Runs as the API and exports show them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

from automations.api.bson_json import Json, to_json
from tracking.ids import parse_trigger_id
from tracking.queries.run_filters import STEPS

_TRIGGER_FIELDS = ("outcome", "createdAt", "occurredAt", "state", "progress", "doneAt")

# A spreadsheet takes a cell that starts so for a formula
# (https://owasp.org/www-community/attacks/CSV_Injection); an apostrophe makes it text.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

CSV_COLUMNS = (
    "_id", "createdAt", "occurredAt", "automationId", "triggerType", "userId", "personUnknown",
    "eventId", "postId", "storyId", "messageText", *STEPS, "completedAt",
)  # fmt: skip
_ROWS_PER_CHUNK = 500


def build_run(run: Mapping[str, Any]) -> Json:
    """Return a stored run as JSON: every field, and those that older products do not have."""
    answer: Json = to_json(run)
    answer["_id"] = str(run["_id"])
    for name, value in (("eventId", None), ("steps", {}), ("completedAt", None)):
        answer.setdefault(name, value)
    return answer


def build_trigger(trigger: Mapping[str, Any]) -> Json:
    """Return an event behind a run, without what was sent."""
    _, kind, event_id = parse_trigger_id(trigger["_id"])
    shown = {name: to_json(trigger[name]) for name in _TRIGGER_FIELDS if name in trigger}
    return {"kind": kind, "eventId": event_id, **shown}


def build_row(run: Mapping[str, Any]) -> list[str]:
    """Return a run as the cells of CSV_COLUMNS; steps have their state."""
    answer = build_run(run)
    metadata = answer.get("metadata")
    steps = answer["steps"] if isinstance(answer["steps"], dict) else {}
    values = {
        **(metadata if isinstance(metadata, dict) else {}),
        **answer,
        **{
            name: step.get("state")
            for name, step in steps.items()
            if name in STEPS and isinstance(step, dict)
        },
    }
    return [guard_cell(values.get(column)) for column in CSV_COLUMNS]


def guard_cell(value: Any) -> str:
    """Return a cell's text, which no spreadsheet takes for a formula."""
    if value is None:
        return ""
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def write_csv(runs: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Yield a CSV file with a heading, in pieces (RFC 4180, UTF-8)."""
    rows = chain([list(CSV_COLUMNS)], map(build_row, runs))
    while chunk := list(islice(rows, _ROWS_PER_CHUNK)):
        text = io.StringIO(newline="")
        csv.writer(text).writerows(chunk)
        # A lone surrogate in somebody's text has no UTF-8.
        yield text.getvalue().encode("utf-8", "replace")

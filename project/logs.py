"""How a log line looks: plain for people, one JSON object a line for machines."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

import orjson

from project.request_ids import read_id_of, request_id
from project.traces import format_trace

# What every LogRecord has; the rest was given by the caller in `extra`.
_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_FEWEST_FIELDS = len(vars(logging.makeLogRecord({})))

# Control characters (C0, DEL, C1), the separators of lines, and the marks that turn the direction.
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F),
             *range(0x2066, 0x206A))  # fmt: skip
_SPELT_OUT = {code: ascii(chr(code))[1:-1] for code in _CONTROLS}


class HideQueryStrings(logging.Filter):
    """Drop query strings: the one of Meta's verification holds the verify token.

    Django hands the whole request to the record (`django.request`), and the first line of the
    request to the message (`django.server`).
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, without query strings."""
        request = getattr(record, "request", None)
        path = getattr(request, "path", None)
        if path is not None:
            record.request = f"{getattr(request, 'method', None)} {path}"
            # Django logs an answer past 399 when the request is over.
            if of_request := read_id_of(request):
                record.request_id = of_request
        elif request is not None:
            vars(record).pop("request")
        if record.name == "django.server" and isinstance(record.args, tuple):
            record.args = tuple(_cut_query(value) for value in record.args)
        return True


def _cut_query(value: Any) -> Any:
    if not isinstance(value, str) or "?" not in value:
        return value
    path, _, query = value.partition("?")
    return " ".join([path, *query.split(" ")[1:]])


class HumanFormatter(logging.Formatter):
    """A line for people, and no more than a line: ids come from outside, and a terminal obeys."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Return the line, with what would move the cursor or begin another line spelt out."""
        return super().formatMessage(record).translate(_SPELT_OUT)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Return the traceback, indented: none of its lines passes for a record."""
        lines = _format_exception(ei).splitlines()
        return "\n".join(f"  {line.translate(_SPELT_OUT)}" for line in lines)


class JsonFormatter(logging.Formatter):
    """One JSON object a line, UTF-8, the message verbatim (emoji and all)."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON; never raises for what a caller put into it."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (of_request := request_id.get()) != "":
            fields["request_id"] = of_request
        if len(vars(record)) > _FEWEST_FIELDS:
            fields |= {
                name: value
                for name, value in vars(record).items()
                if name not in _OWN_FIELDS and name not in fields
            }
        if record.exc_info:
            fields["exception"] = _format_exception(record.exc_info)
        try:
            return orjson.dumps(fields, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        except orjson.JSONEncodeError:
            # A lone surrogate out of somebody's text, or an integer past 64 bits.
            return json.dumps(fields, default=str, skipkeys=True)


def _format_exception(ei: Any) -> str:
    error = ei[1] if isinstance(ei, tuple) else None
    return "" if error is None else format_trace(error)


def trim_records() -> None:
    """Leave out of every record what no format of ours shows.

    There is a line for every run, and these were half of its cost
    (https://docs.python.org/3/howto/logging.html#optimization).
    """
    logging._srcfile = None  # noqa: SLF001
    logging.logThreads = False
    logging.logProcesses = False
    logging.logMultiprocessing = False


def build_logging(*, as_json: bool) -> dict[str, Any]:
    """Return Django's LOGGING setting: everything to stderr, INFO and up."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "human": {
                "()": "project.logs.HumanFormatter",
                "format": "{asctime} {levelname:<7} {message}",
                "style": "{",
            },
            "json": {"()": "project.logs.JsonFormatter"},
        },
        "filters": {"no_queries": {"()": "project.logs.HideQueryStrings"}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "filters": ["no_queries"],
                "formatter": "json" if as_json else "human",
            },
        },
        "root": {"handlers": ["stderr"], "level": "INFO"},
        "loggers": {
            # Django gives these handlers of their own, which would print every line twice.
            "django": {"handlers": [], "level": "INFO", "propagate": True},
            "django.server": {"handlers": [], "level": "INFO", "propagate": True},
            "pymongo": {"level": "WARNING"},
        },
    }

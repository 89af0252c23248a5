"""How a log line looks: plain for people, one JSON object per line for machines."""

import json
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import orjson

# Of the request that this thread answers; empty in commands and in threads of their own.
# RequestIdMiddleware sets it, and notes it in the request under this key for lines that Django
# writes when the request is over. No header can have this name.
request_id: ContextVar[str] = ContextVar("request_id", default="")
REQUEST_ID_KEY = "request_id"

# What every LogRecord has; the rest was given by the caller in `extra`.
_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_FEWEST_FIELDS = len(vars(logging.makeLogRecord({})))

# Control characters (C0, DEL, C1), the separators of lines, and the marks that turn the direction.
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_ESCAPES = {code: ascii(chr(code))[1:-1] for code in _CONTROLS}


class HideQueryStrings(logging.Filter):
    """Drop query strings: the one of Meta's verification holds the verify token.

    Django hands the whole request to the record (`django.request`), and the first line of the
    request to the message (`django.server`).
    """

    def filter(self, record: logging.LogRecord) -> bool:
        request = getattr(record, "request", None)
        path = getattr(request, "path", None)
        if path is not None:
            record.request = f"{getattr(request, 'method', None)} {path}"
            if of_request := getattr(request, "META", {}).get(REQUEST_ID_KEY):
                record.request_id = of_request
        elif request is not None:
            vars(record).pop("request")
        if record.name == "django.server" and isinstance(record.args, tuple):
            record.args = tuple(_cut_query(value) for value in record.args)
        return True


class BoundRefusals(logging.Filter):
    """Count the lines about refused requests, and pass on sixty of them a minute.

    A stranger who posts without a signature would otherwise fill the disk.
    """

    def __init__(self, read_seconds: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._read_seconds = read_seconds
        self._ends_at = 0.0
        self._count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        now = self._read_seconds()
        if now >= self._ends_at:
            dropped, self._count = self._count - _MOST_REFUSALS, 0
            self._ends_at = now + 60
            if dropped > 0:
                logging.getLogger("automations").warning(
                    "⚠️ %d more lines about refused requests were left out", dropped
                )
        is_refusal = record.name.startswith(_REFUSAL_LOGGERS) and (
            record.levelno < logging.ERROR or record.name != "django.request"
        )
        self._count += is_refusal
        return not is_refusal or self._count <= _MOST_REFUSALS


_MOST_REFUSALS = 60
# Errors of `django.request` are bugs of ours.
_REFUSAL_LOGGERS = ("automations.refusals", "django.request", "django.security")


def _cut_query(value: Any) -> Any:
    if not isinstance(value, str) or "?" not in value:
        return value
    path, _, query = value.partition("?")
    return " ".join([path, *query.split(" ")[1:]])


class HumanFormatter(logging.Formatter):
    """One line for people; ids come from outside, so control characters are escaped."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        return super().formatMessage(record).translate(_ESCAPES)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        # Indented, so that none of its lines looks like a record.
        lines = _format_exception(ei).splitlines()
        return "\n".join(f"  {line.translate(_ESCAPES)}" for line in lines)


class JsonFormatter(logging.Formatter):
    """One JSON object per line, in UTF-8, the message verbatim."""

    def format(self, record: logging.LogRecord) -> str:
        """Never raises, whatever a caller put into the record."""
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


_OURS = ("automations", "project", "tracking")
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


def format_trace(error: BaseException) -> str:
    """Return the traceback without what anybody wrote.

    The text of an exception may hold any value: a KeyError its key, one of pymongo's the whole
    document that could not be written, message included. So types and places are kept of every
    exception, and the text of our own alone.
    """
    return "".join(_format(error, seen=set())).rstrip("\n")


def _format(error: BaseException, *, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    earlier, how = error.__cause__, _CAUSE
    if earlier is None and not error.__suppress_context__:
        earlier, how = error.__context__, _CONTEXT
    if earlier is not None and id(earlier) not in seen:
        yield from _format(earlier, seen=seen)
        yield how
    yield "Traceback (most recent call last):\n"
    yield from traceback.format_tb(error.__traceback__)
    yield f"{_describe(error)}\n"


def _describe(error: BaseException) -> str:
    kind = type(error)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    name = f"{kind.__module__}.{kind.__qualname__}"
    return f"{name}: {error}" if kind.__module__.partition(".")[0] in _OURS else name


def trim_records() -> None:
    """Leave out of every record what none of our formats shows.

    Every run logs a line, and these were half of its cost
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
        "filters": {
            "no_queries": {"()": "project.logs.HideQueryStrings"},
            "bounded": {"()": "project.logs.BoundRefusals"},
        },
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "filters": ["bounded", "no_queries"],
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

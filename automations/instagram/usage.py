"""How much of its quota an account has used, from the headers of Meta's answers.

https://developers.facebook.com/docs/graph-api/overview/rate-limiting: the values are percentages of
a rolling hour; `estimated_time_to_regain_access` is in minutes.
"""

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

BUSINESS_HEADER = "x-business-use-case-usage"
APP_HEADER = "x-app-usage"
_PERCENTAGES = ("call_count", "total_cputime", "total_time")
_REGAIN = "estimated_time_to_regain_access"
_REMEMBERED_SECONDS = 3600.0
_MOST_ACCOUNTS = 100_000
# The longest wait that one answer can ask for; if it is too short, the next answer asks again.
MOST_WAIT_SECONDS = 3600.0


class UsageBoard:
    """The last value of each account and of the app; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str | None, tuple[float, float]] = {}

    def note(self, account: str | None, headers: Mapping[str, str], *, at: float) -> None:
        """Keep what the headers of an answer say; `at` is monotonic."""
        business = _find_highest(_read_business(headers))
        app = _find_highest([_read_object(headers, APP_HEADER)])
        with self._lock:
            if business is not None and account is not None:
                if len(self._values) >= _MOST_ACCOUNTS:
                    self._values.clear()
                self._values[account] = (business, at)
            if app is not None:
                self._values[None] = (app, at)

    def read(self, account: str, *, at: float) -> float:
        """Return the used part of the quota, 0 to 1, of the account or the app.

        0 if nothing was reported for an hour, because Meta counts no further back.
        """
        with self._lock:
            found = [self._values.get(account), self._values.get(None)]
        return max(
            (value for value, noted in filter(None, found) if at - noted < _REMEMBERED_SECONDS),
            default=0.0,
        )


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return in how many seconds the account may call again, None if unknown.

    At most MOST_WAIT_SECONDS; what cannot be read was not said.
    """
    waits = [60.0 * _read_number(usage, _REGAIN) for usage in _read_business(headers)]
    retry_after = headers.get("retry-after", "").strip()
    if retry_after.isascii() and retry_after.isdigit():
        waits.append(float(retry_after))
    elif retry_after:
        with suppress(ValueError, OverflowError, TypeError):
            until, now = map(parsedate_to_datetime, (retry_after, headers.get("date", "")))
            waits.append((until - now).total_seconds())
    said = [wait for wait in waits if 0 < wait < math.inf]
    return min(MOST_WAIT_SECONDS, max(said)) if said else None


def _read_number(usage: Mapping[str, Any], name: str) -> float:
    value = usage.get(name)
    return float(value) if isinstance(value, int | float) and value is not True else 0.0


def _read_business(headers: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
    # {"<id of the business object>": [{"type": "messenger", "call_count": 28, ...}, ...], ...}
    for usages in _read_object(headers, BUSINESS_HEADER).values():
        if isinstance(usages, list):
            yield from (usage for usage in usages if isinstance(usage, dict))


def _read_object(headers: Mapping[str, str], name: str) -> dict[str, Any]:
    try:
        value = orjson.loads(headers.get(name, "{}"))
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _find_highest(usages: Any) -> float | None:
    values = [
        _read_number(usage, name) / 100
        for usage in usages
        for name in _PERCENTAGES
        if name in usage
    ]
    return min(1.0, max(0.0, *values)) if values else None

"""A traceback that says what went wrong and where, and nothing of what anybody wrote.

The text of an exception may hold any value: a KeyError its key, one of pymongo's the whole document
that could not be written, message and all. Types and places are kept of every exception, the
text of our own alone, which is written here.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator

_OURS = ("automations", "project", "tracking")
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


def format_trace(error: BaseException) -> str:
    """Return the traceback of an exception and of what led to it, without a line's end."""
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

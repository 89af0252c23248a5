"""What a check is given and what it says. Pure."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec


class State(StrEnum):
    """How a check came out; `skipped` is what could not be asked, and is not wrong."""

    OK = "ok"
    WRONG = "wrong"
    SKIPPED = "skipped"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line: what was looked at, what was found, what would be right, and what to do."""

    what: str
    state: State
    figure: str
    limit: str
    fix: str = ""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What a check works on. `database` is pymongo's; times are aware UTC.

    Unless `is_full`, checks look at the newest automations and runs only, so that they end within
    seconds whatever the size. `retention` is None where runs are kept for ever.
    """

    database: Any
    now: datetime
    retention: timedelta | None
    is_full: bool = False


Check = Callable[[Scope], Iterable[Finding]]


def build_finding(
    what: str,
    figure: str,
    limit: str = "0",
    *,
    named: Iterable[str] = (),
    is_ok: bool | None = None,
    fix: str = "",
) -> Finding:
    """Return a finding: the first of what is `named` follow the figure.

    Unless `is_ok` says so, all is well if nothing is named. What is right needs no fix.
    """
    names = describe_some(named)
    is_ok = not names if is_ok is None else is_ok
    state = State.OK if is_ok else State.WRONG
    figure += f": {names}" if names else ""
    return Finding(what=what, state=state, figure=figure, limit=limit, fix="" if is_ok else fix)


def describe_some(names: Iterable[str], *, most: int = 3) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more

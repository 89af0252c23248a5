"""Figures and times in plain words. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo

_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_JUST_NOW = timedelta(seconds=10)

TYPES = {
    "comment_to_dm": "Comment to DM",
    "story_reply": "Story reply",
    "dm_auto_responder": "DM responder",
}


def describe_age(moment: datetime | None, *, at: datetime, zone: tzinfo) -> str:
    """Return how long ago that was in words; "never" for None."""
    if moment is None:
        return "never"
    age = at - moment
    if age < _HOUR:
        return _describe_minutes(age)
    local, today = moment.astimezone(zone), at.astimezone(zone).date()
    if age < 12 * _HOUR or local.date() == today:
        return _count(age // _HOUR, "hour")
    if local.date() == today - _DAY:
        return f"yesterday, {local:%H:%M}"
    if age < 7 * _DAY:
        return _count((today - local.date()).days, "day")
    return format_day(local, today_year=today.year)


def _describe_minutes(age: timedelta) -> str:
    if age < _JUST_NOW:
        return "just now"
    return f"{age.seconds} seconds ago" if age < _MINUTE else _count(age // _MINUTE, "minute")


def describe_wait(seconds: float) -> str:
    """Return an estimated duration like "about 25 minutes"."""
    if seconds < 60:
        return "less than a minute"
    if seconds < 90 * 60:
        return f"about {_plural(round(seconds / 60), 'minute')}"
    hours = seconds / 3600
    if hours < 36:
        return f"about {_plural(round(hours), 'hour')}"
    return f"about {_plural(round(hours / 24), 'day')}"


def describe_span(span: timedelta) -> str:
    """Return a duration like "4 seconds" or "3 hours"."""
    for unit, length in (("day", _DAY), ("hour", _HOUR), ("minute", _MINUTE)):
        if span >= length:
            return _plural(span // length, unit)
    return _plural(span.seconds, "second")


def format_moment(moment: datetime, *, zone: tzinfo) -> str:
    """Return a time like "25 Nov 2026, 14:02:31 CET"."""
    local = moment.astimezone(zone)
    return f"{local.day} {local:%b %Y, %H:%M:%S %Z}"


def format_clock(moment: datetime, *, at: datetime, zone: tzinfo) -> str:
    """Return a time to the minute, with the day unless today."""
    local, today = moment.astimezone(zone), at.astimezone(zone).date()
    clock = f"{local:%H:%M}"
    return (
        clock if local.date() == today else f"{format_day(local, today_year=today.year)}, {clock}"
    )


def format_day(local: datetime, *, today_year: int) -> str:
    """Return a local day, with the year unless it is this one."""
    return f"{local.day} {local:%b}" if local.year == today_year else f"{local.day} {local:%b %Y}"


def describe_type(type_: object) -> str:
    """Return the type in words, an unknown one as it is stored."""
    return TYPES.get(type_, type_) if isinstance(type_, str) else "Unknown type"


def _count(number: int, unit: str) -> str:
    return f"{_plural(number, unit)} ago"


def _plural(number: int, unit: str) -> str:
    return f"{number:,} {unit}" if number == 1 else f"{number:,} {unit}s"

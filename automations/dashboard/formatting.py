"""Figures and times in plain words. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo
from typing import Any

from automations.rules.automation import find_fault
from tracking.ids import name_id

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
    if moment is None:
        return "never"
    age = at - moment
    if age < _HOUR:
        return "just now" if age < _JUST_NOW else f"{describe_span(age)} ago"
    local, today = moment.astimezone(zone), at.astimezone(zone).date()
    if age < 12 * _HOUR or local.date() == today:
        return f"{_plural(age // _HOUR, 'hour')} ago"
    if local.date() == today - _DAY:
        return f"yesterday, {local:%H:%M}"
    if age < 7 * _DAY:
        return f"{_plural((today - local.date()).days, 'day')} ago"
    return format_day(local, today_year=today.year)


def describe_wait(wait: timedelta) -> str:
    """Return an estimated duration like "about 25 minutes"."""
    if wait < _MINUTE:
        return "less than a minute"
    unit, length = ("minute", _MINUTE) if wait < 90 * _MINUTE else ("hour", _HOUR)
    if wait >= 36 * _HOUR:
        unit, length = "day", _DAY
    return f"about {_plural(round(wait / length), unit)}"


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
    if local.date() == today:
        return clock
    return f"{format_day(local, today_year=today.year)}, {clock}"


def format_day(local: datetime, *, today_year: int) -> str:
    return f"{local.day} {local:%b}" if local.year == today_year else f"{local.day} {local:%b %Y}"


def describe_type(type_: object) -> str:
    return TYPES.get(type_, type_) if isinstance(type_, str) else "Unknown type"


def describe_automation(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what pages call a stored automation, and why it matches nothing if active."""
    is_active = document.get("isActive") is True
    return {
        "id": name_id(document["_id"]),
        "name": str(document.get("name") or "Without a name"),
        "type": describe_type(document.get("type")),
        "is_active": is_active,
        "fault": find_fault(document) if is_active else "",
    }


def _plural(number: int, unit: str) -> str:
    return f"{number:,} {unit}" if number == 1 else f"{number:,} {unit}s"

"""Times as MongoDB and JSON have them: aware UTC, whole milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime


def format_time(moment: datetime) -> str:
    """Return a time as `2026-11-23T10:30:00.123Z`; one without a zone is taken as UTC."""
    if moment.tzinfo is not None and moment.utcoffset():
        moment = moment.astimezone(UTC)
    return f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def truncate_to_milliseconds(moment: datetime) -> datetime:
    """Return `moment` cut to whole milliseconds, the precision of BSON dates."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def read_now() -> datetime:
    """Return the time in whole milliseconds."""
    return truncate_to_milliseconds(datetime.now(UTC))

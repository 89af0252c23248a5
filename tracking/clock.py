"""Times as MongoDB and JSON have them: aware UTC, whole milliseconds."""

from datetime import UTC, datetime

_LENGTH = len("2026-11-23T10:30:00.123")


def format_time(moment: datetime) -> str:
    """Return a time as `2026-11-23T10:30:00.123Z`; one without a zone is taken as UTC."""
    text = moment.isoformat(timespec="milliseconds")
    if text[_LENGTH:] not in ("", "+00:00"):
        text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return f"{text[:_LENGTH]}Z"


def truncate_to_milliseconds(moment: datetime) -> datetime:
    """Return `moment` cut to whole milliseconds, the precision of BSON dates."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def read_now() -> datetime:
    """Return the time in whole milliseconds."""
    return truncate_to_milliseconds(datetime.now(UTC))

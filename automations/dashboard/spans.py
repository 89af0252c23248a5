"""The spans of a chart, and the names of its bars. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo

import msgspec

from tracking.queries.time_grid import Unit, start_of_day


class Span(msgspec.Struct, frozen=True):
    """A choice above the chart: so many buckets, the current one last."""

    key: str
    name: str
    unit: Unit
    buckets: int

    def find_start(self, at: datetime, *, zone: tzinfo) -> datetime:
        """Return an instant in the first bucket of the span."""
        if self.unit is Unit.HOUR:
            return at - timedelta(hours=self.buckets - 1)
        # By dates: 89 times 24 hours are not always 89 days.
        return start_of_day(at.astimezone(zone).date() - timedelta(days=self.buckets - 1), zone)


SPANS = {
    one.key: one
    for one in (
        Span("24h", "24 hours", Unit.HOUR, 24),
        Span("7d", "7 days", Unit.HOUR, 7 * 24),
        Span("90d", "90 days", Unit.DAY, 90),
    )
}
DEFAULT_SPAN = "7d"
_EVERY_HOURS = 3
_EVERY_DAYS = 14


def find_span(key: str | None) -> Span:
    """Return the span of that name, the default for any other."""
    return SPANS.get(key or "", SPANS[DEFAULT_SPAN])


def name_buckets(starts: Sequence[datetime], span: Span, *, zone: tzinfo) -> list[tuple[str, str]]:
    """Return (full name, text on the axis or "") of each bucket.

    Where daylight saving starts or ends in the span, hours also name their offset.
    """
    local = [start.astimezone(zone) for start in starts]
    if span.unit is Unit.DAY:
        marked = range(len(local) - 1, -1, -_EVERY_DAYS)
        return [
            (f"{day:%a} {day.day} {day:%b}", f"{day.day} {day:%b}" if at in marked else "")
            for at, day in enumerate(local)
        ]
    is_moved = len({moment.utcoffset() for moment in local}) > 1
    clock = "%H:%M %Z" if is_moved else "%H:%M"
    mark = _mark_hours if span.key == "24h" else _mark_days
    return [
        (f"{moment:%a} {moment.day} {moment:%b}, {moment.strftime(clock)}", mark(moment))
        for moment in local
    ]


def _mark_hours(moment: datetime) -> str:
    return f"{moment:%H:%M}" if moment.hour % _EVERY_HOURS == 0 else ""


def _mark_days(moment: datetime) -> str:
    # Noon: the middle of its day's bars.
    return f"{moment:%a} {moment.day}" if moment.hour == 12 else ""

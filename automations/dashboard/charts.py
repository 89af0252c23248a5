"""Charts: their geometry, their spans, and the names of their bars. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo

import msgspec

from tracking.queries.time_grid import Unit, start_of_day

SPARK_WIDTH = 140
SPARK_HEIGHT = 32
_SPARK_BUCKET_HOURS = 6
_SPARK_BUCKETS = 28  # seven days
_SPARK_PAD = 2.0
# Of the bar chart: its size, and the margins for the axes.
_WIDTH, _HEIGHT = 760, 240
_LEFT, _TOP, _FOOT = 44, 12, 26


class Spark(msgspec.Struct, frozen=True):
    line: str
    area: str
    text: str


def build_spark(hours: Mapping[int, int], *, hour: int) -> Spark | None:
    """Return the seven days that end with `hour`, None without runs."""
    first = hour + 1 - _SPARK_BUCKETS * _SPARK_BUCKET_HOURS
    counts = [0] * _SPARK_BUCKETS
    for number, runs in hours.items():
        place = (number - first) // _SPARK_BUCKET_HOURS
        if 0 <= place < _SPARK_BUCKETS:
            counts[place] += runs
    most = max(counts)
    if not most:
        return None
    step = (SPARK_WIDTH - 2 * _SPARK_PAD) / (_SPARK_BUCKETS - 1)
    room = SPARK_HEIGHT - 2 * _SPARK_PAD
    points = [
        f"{_SPARK_PAD + at * step:.1f} {SPARK_HEIGHT - _SPARK_PAD - room * count / most:.1f}"
        for at, count in enumerate(counts)
    ]
    line = f"M{'L'.join(points)}"
    last_x = _SPARK_PAD + (_SPARK_BUCKETS - 1) * step
    area = f"{line}L{last_x:.1f} {SPARK_HEIGHT}L{_SPARK_PAD:.1f} {SPARK_HEIGHT}Z"
    text = f"Seven days, from {min(counts):,} to {most:,} runs in six hours"
    return Spark(line, area, text)


class Bar(msgspec.Struct, frozen=True):
    x: float
    y: float
    width: float
    height: float
    label: str
    count: int


class Tick(msgspec.Struct, frozen=True):
    at: float
    text: str


class BarChart(msgspec.Struct, frozen=True):
    """A chart in the units of its viewBox."""

    width: int
    height: int
    left: int
    bottom: float
    bars: tuple[Bar, ...]
    levels: tuple[Tick, ...]
    marks: tuple[Tick, ...]


def build_bars(points: Sequence[tuple[str, str, int]]) -> BarChart:
    """Return the bars of (label, axis text or "", count), oldest first."""
    bottom = float(_HEIGHT - _FOOT)
    levels = find_levels(max((count for _, _, count in points), default=0))
    scale = (bottom - _TOP) / levels[-1]
    step = (_WIDTH - _LEFT) / max(len(points), 1)
    gap = min(2.0, step * 0.25)
    bars, marks = [], []
    for at, (label, mark, count) in enumerate(points):
        x, tall = _LEFT + at * step, count * scale
        place = (round(x + gap / 2, 2), round(bottom - tall, 2))
        size = (round(step - gap, 2), round(tall, 2))
        bars.append(Bar(*place, *size, label, count))
        if mark:
            marks.append(Tick(round(x + step / 2, 2), mark))
    return BarChart(
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        bottom=bottom,
        bars=tuple(bars),
        levels=tuple(Tick(round(bottom - level * scale, 2), f"{level:,}") for level in levels),
        marks=tuple(marks),
    )


def find_levels(most: int) -> list[int]:
    """Return three to six round levels from zero to at least `most`."""
    step = 1
    while True:
        for factor in (1, 2, 5):
            size = step * factor
            if most <= size * 4:
                # At least two, so that an empty chart has a scale too.
                return [size * number for number in range(max(2, -(-most // size)) + 1)]
        step *= 10


class Span(msgspec.Struct, frozen=True):
    """A choice above the chart: so many buckets, the current one last."""

    key: str
    name: str
    unit: Unit
    buckets: int

    def find_start(self, at: datetime, *, zone: tzinfo) -> datetime:
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
_EVERY_HOURS = 3
_EVERY_DAYS = 14


def find_span(key: str | None) -> Span:
    return SPANS.get(key or "", SPANS["7d"])


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
    return [
        (f"{one:%a} {one.day} {one:%b}, {one.strftime(clock)}", _mark_hour(one, span))
        for one in local
    ]


def _mark_hour(moment: datetime, span: Span) -> str:
    if span.key == "24h":
        return f"{moment:%H:%M}" if moment.hour % _EVERY_HOURS == 0 else ""
    # Noon: the middle of its day's bars.
    return f"{moment:%a} {moment.day}" if moment.hour == 12 else ""

"""The geometry of charts. Pure: counts in, numbers and paths out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

SPARK_WIDTH = 140
SPARK_HEIGHT = 32
_SPARK_BUCKET_HOURS = 6
_SPARK_BUCKETS = 28  # seven days
_SPARK_PAD = 2.0


class Spark(msgspec.Struct, frozen=True):
    """A small line: paths of the line and its area, and words."""

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
    """A mark on an axis: its place and its text."""

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


def build_bars(
    points: Sequence[tuple[str, str, int]],
    *,
    width: int = 760,
    height: int = 240,
    left: int = 44,
    top: int = 12,
    foot: int = 26,
) -> BarChart:
    """Return the bars of (label, axis text or "", count), oldest first."""
    bottom = float(height - foot)
    levels = find_levels(max((count for _, _, count in points), default=0))
    scale = (bottom - top) / levels[-1]
    step = (width - left) / max(len(points), 1)
    gap = min(2.0, step * 0.25)
    bars, marks = [], []
    for at, (label, mark, count) in enumerate(points):
        x = left + at * step
        tall = count * scale
        bars.append(
            Bar(
                x=round(x + gap / 2, 2),
                y=round(bottom - tall, 2),
                width=round(step - gap, 2),
                height=round(tall, 2),
                label=label,
                count=count,
            )
        )
        if mark:
            marks.append(Tick(round(x + step / 2, 2), mark))
    return BarChart(
        width=width,
        height=height,
        left=left,
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

"""What processes hold, read from /proc and from mongod, and whether it grows."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.chaos.background import Background

# "web memory", in MiB or in pieces -> value
Reading = Mapping[str, float]


class Trend(NamedTuple):
    """A figure over a run: early, in the middle and late (medians), and its slope per minute in
    the second half.
    """

    start: float
    middle: float
    end: float
    slope: float


class Readings(Background):
    """Reads again and again; a reading that fails is left out."""

    def __init__(self, read: Callable[[], Reading], *, every_seconds: float) -> None:
        self.rows: list[tuple[float, Reading]] = []
        self._read = read
        self._every_seconds = every_seconds
        super().__init__(self._work)

    def _work(self) -> None:
        while not self.stopping.wait(self._every_seconds):
            with suppress(Exception):
                self.rows.append((time.monotonic(), self._read()))


def read_processes(roles: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Return memory (MiB), files and threads of each role, summed over its processes."""
    found: dict[str, float] = {}
    for role, pids in roles.items():
        for pid in pids:
            with suppress(OSError):  # it ended
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                status = dict(line.split(":", 1) for line in lines)
                memory = int(status["VmRSS"].split()[0]) / 1024
                files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
                held = {"memory": memory, "files": files, "threads": int(status["Threads"])}
                for name, value in held.items():
                    found[f"{role} {name}"] = found.get(f"{role} {name}", 0.0) + value
    return found


def measure_trend(rows: Sequence[tuple[float, Reading]], name: str) -> Trend:
    """Return how a figure went. Of fewer than five readings there is none: ValueError."""
    points = [(at, reading[name]) for at, reading in rows if name in reading]
    if len(points) < 5:
        raise ValueError(f"{name} was read {len(points)} times only.")
    tenth, half = max(len(points) // 10, 1), len(points) // 2
    around = points[half - tenth // 2 : half - tenth // 2 + tenth]
    second = points[half:]
    slope = statistics.linear_regression(*zip(*second, strict=True)).slope * 60
    return Trend(
        *(statistics.median(value for _, value in part)
          for part in (points[:tenth], around, points[-tenth:])),
        slope,
    )  # fmt: skip


def is_bounded(trend: Trend, *, slack: float) -> bool:
    """Return whether a figure grew in the second half by no more than a tenth, and `slack`."""
    return trend.end <= trend.middle * 1.1 + slack

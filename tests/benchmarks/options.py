"""What to run, and how long: read from the environment, once."""

import os
from typing import NamedTuple

ROW_NAMES = (
    *("1", "100", "1000", "sustained", "alone", "one", "duplicates", "replay"),
    *("latency", "lag", "burst", "trouble", "list", "dashboard"),
)
# Only when they are asked for by name.
EXTRA_ROW_NAMES = ("webserver",)


class Options(NamedTuple):
    rows: tuple[str, ...]
    rounds: int
    seconds: float
    list_sizes: tuple[int, ...]
    only: str
    before: str
    is_quick: bool
    has_profile: bool

    @property
    def is_complete(self) -> bool:
        """Whether the figures may replace RESULTS.md."""
        is_cut = self.is_quick or self.has_profile or bool(self.only)
        return not is_cut and set(ROW_NAMES) <= set(self.rows)

    def is_wanted(self, name: str) -> bool:
        """Whether a candidate takes part: `BENCH_ONLY=ours` leaves the others out."""
        return self.only in name


def read_options() -> Options:
    """Return the options; raises SystemExit for a row that does not exist."""
    is_quick = _has("BENCH_QUICK")
    named = os.environ.get("BENCH_ROWS", "").replace(",", " ").split()
    unknown = [name for name in named if name not in ROW_NAMES + EXTRA_ROW_NAMES]
    if unknown:
        raise SystemExit(
            f"BENCH_ROWS: there is no row {unknown[0]!r}; "
            f"use some of {', '.join(ROW_NAMES + EXTRA_ROW_NAMES)}."
        )
    sizes: tuple[int, ...] = (10_000, 30_000) if is_quick else (10_000, 100_000, 1_000_000)
    if _has("BENCH_FULL"):
        sizes += (5_000_000,)
    return Options(
        rows=tuple(named) or ROW_NAMES,
        rounds=int(os.environ.get("BENCH_ROUNDS", "1" if is_quick else "3")),
        seconds=float(os.environ.get("BENCH_SECONDS", "2" if is_quick else "5")),
        list_sizes=sizes,
        only=os.environ.get("BENCH_ONLY", ""),
        before=os.environ.get("BENCH_BEFORE", ""),
        is_quick=is_quick,
        has_profile=_has("BENCH_PROFILE"),
    )


def _has(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")

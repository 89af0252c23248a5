"""What to run, and how long: read from the environment, once."""

import os
from collections.abc import Iterable
from typing import NamedTuple

# Only when it is asked for by name.
EXTRA_ROW = "webserver"


class Options(NamedTuple):
    rows: tuple[str, ...]
    rounds: int
    seconds: float
    list_sizes: tuple[int, ...]
    only: str
    before: str
    is_quick: bool
    is_complete: bool  # whether the figures may replace RESULTS.md

    def is_wanted(self, name: str) -> bool:
        """Whether a candidate takes part: `BENCH_ONLY=ours` leaves the others out."""
        return self.only in name


def read_options(all_rows: Iterable[str]) -> Options:
    """Return the options; raises SystemExit for a row that does not exist."""
    is_quick = _has("BENCH_QUICK")
    usual = tuple(name for name in all_rows if name != EXTRA_ROW)
    rows = tuple(os.environ.get("BENCH_ROWS", "").replace(",", " ").split()) or usual
    if unknown := set(rows) - {*usual, EXTRA_ROW}:
        names = ", ".join((*usual, EXTRA_ROW))
        raise SystemExit(f"BENCH_ROWS: there is no row {min(unknown)!r}; use some of {names}.")
    sizes: tuple[int, ...] = (10_000, 30_000) if is_quick else (10_000, 100_000, 1_000_000)
    if _has("BENCH_FULL"):
        sizes += (5_000_000,)
    only = os.environ.get("BENCH_ONLY", "")
    return Options(
        rows=rows,
        rounds=int(os.environ.get("BENCH_ROUNDS", "1" if is_quick else "3")),
        seconds=float(os.environ.get("BENCH_SECONDS", "2" if is_quick else "5")),
        list_sizes=sizes,
        only=only,
        before=os.environ.get("BENCH_BEFORE", ""),
        is_quick=is_quick,
        is_complete=not is_quick and not only and set(usual) <= set(rows),
    )


def _has(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")

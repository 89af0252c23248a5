"""The targets of the project, beside what a run measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from tests.benchmarks.figures import Result, Table

OURS = "ours, 2 processes"


class Target(NamedTuple):
    """One figure with a bound: `read` returns it, or None when the run has it not."""

    row: str
    figure: str
    read: Callable[[Mapping[str, Table]], float | None]
    at_least: float
    aim: float
    unit: str = "x"
    is_maximum: bool = False  # the figure has to stay under its bounds

    def judge(self, value: float, bound: float) -> str:
        """Return met or short."""
        return "met" if (value <= bound if self.is_maximum else value >= bound) else "short"


Reader = Callable[[Mapping[str, Table]], float | None]


def _median(key: str, start: str = OURS) -> Reader:
    def read(tables: Mapping[str, Table]) -> float | None:
        found = tables[key].find(start) if key in tables else None
        return found.median if found is not None else None

    return read


def _ratio(above: Reader, below: Reader) -> Reader:
    def read(tables: Mapping[str, Table]) -> float | None:
        one, other = above(tables), below(tables)
        return one / other if one is not None and other else None

    return read


def _against(key: str, peer: str) -> Reader:
    return _ratio(_median(key), _median(key, peer))


def _against_before(key: str) -> Reader:
    return _ratio(_median(key), _median(key, "ours at"))


def _wait(key: str, start: str, share: float) -> Reader:
    def read(tables: Mapping[str, Table]) -> float | None:
        found: Result | None = tables[key].find(start) if key in tables else None
        return found.get_wait(share) * 1000 if found is not None else None

    return read


def _list_median(candidate: str, *, is_largest: bool, key: str = "list") -> Reader:
    def read(tables: Mapping[str, Table]) -> float | None:
        if key not in tables:
            return None
        found = [one.median for one in tables[key].results if one.name.startswith(candidate)]
        return (max(found) if is_largest else found[0]) if found else None

    return read


_ONE = "ours, 4 processes, one"
_MANY = "ours, 4 processes, 200"
_MILLION = "1,000,000 runs"
TARGETS = (
    Target("1 event", "against naive", _against("1", "Node, naive"), 2.5, 4),
    Target("1 event", "against fair", _against("1", "Node, fair"), 2, 4),
    Target("1 event", "against the commit before", _against_before("1"), 0.95, 1),
    Target("100 events", "against naive", _against("100", "Node, naive"), 10, 15),
    Target("100 events", "against fair", _against("100", "Node, fair"), 5, 8),
    Target("100 events", "exact events/s", _median("100"), 8_000, 12_000, ""),
    Target("100 events", "against the commit before", _against_before("100"), 0.95, 1),
    Target("1000 events, 2 processes", "exact events/s", _median("1000"), 10_000, 15_000, ""),
    Target("1000 events, 2 processes", "of the floor", _against("1000", "floor"), 0.3, 0.5),
    Target(
        "1000 events, 2 processes", "against the commit before", _against_before("1000"), 0.95, 1
    ),
    Target(
        "one automation, 4 processes", "of 200 automations",
        _ratio(_median("one", _ONE), _median("one", _MANY)), 0.9, 1.0,
    ),
    Target(
        "one automation, 4 processes", "longest wait",
        _wait("one", _ONE, 1.0), 1000, 1000, "ms", is_maximum=True,
    ),
    Target(
        "200 single deliveries/s", "p99 of all", _wait("latency", OURS, 0.99),
        100, 30, "ms", is_maximum=True,
    ),
    Target(
        "list, 50 automations", "largest against 10,000 runs",
        _ratio(_list_median("ours,", is_largest=True), _list_median("ours,", is_largest=False)),
        1.2, 1.2, is_maximum=True,
    ),
    Target(
        "list, 50 automations", "p50 at any size", _list_median("ours,", is_largest=True),
        8, 5, "ms", is_maximum=True,
    ),
    Target(
        "list, 50 automations, 1 M runs", "against naive",
        _ratio(
            _median("list", f"Node, naive, {_MILLION}"), _median("list", f"{OURS}, {_MILLION}")
        ),
        50, 50,
    ),
)  # fmt: skip


def build_markdown(tables: Mapping[str, Table]) -> str:
    """Return every target that the run has a figure for, and whether it is met."""
    lines = ["| row | figure | measured | at least | | aim | |", "|---|---|--:|--:|---|--:|---|"]
    for target in TARGETS:
        value = target.read(tables)
        if value is None:
            continue
        cells = [
            target.row,
            target.figure,
            _show(value, target.unit),
            *_bound(target, value, target.at_least),
            *_bound(target, value, target.aim),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _bound(target: Target, value: float, bound: float) -> tuple[str, str]:
    sign = "under " if target.is_maximum else ""
    return f"{sign}{_show(bound, target.unit)}", target.judge(value, bound)


def _show(value: float, unit: str) -> str:
    if unit == "x":
        return f"{value:.2f} x"
    return f"{value:,.1f} {unit}".strip() if value < 100 else f"{value:,.0f} {unit}".strip()

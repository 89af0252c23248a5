"""The targets of the project, beside what a run measured."""

import statistics
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


def _acknowledged(key: str, start: str = OURS) -> Reader:
    def read(tables: Mapping[str, Table]) -> float | None:
        found = tables[key].find(start) if key in tables else None
        return statistics.median(found.acknowledged) if found and found.acknowledged else None

    return read


def _worst_trouble(tables: Mapping[str, Table]) -> float | None:
    """Return the lowest share of the usual answers, of ours in any trouble."""
    if "trouble" not in tables:
        return None
    usual, *others = (one for one in tables["trouble"].results if one.name.startswith(OURS))
    return min(one.median for one in others) / usual.median if others and usual.median else None


def _list_median(candidate: str, *, is_largest: bool, key: str = "list") -> Reader:
    def read(tables: Mapping[str, Table]) -> float | None:
        if key not in tables:
            return None
        found = [one.median for one in tables[key].results if one.name.startswith(candidate)]
        return (max(found) if is_largest else found[0]) if found else None

    return read


_ONE = f"{OURS}, one"
_MANY = f"{OURS}, 200"
_NAIVE, _FAIR = "Node, naive", "Node, fair"


def _wait_against(key: str, share: float, peer: str) -> Reader:
    return _ratio(_wait(key, OURS, share), _wait(key, peer, share))


TARGETS = (
    Target("1 event", "counted, against naive", _against("1", _NAIVE), 3.5, 4.5),
    Target("1 event", "counted, against fair", _against("1", _FAIR), 3.3, 4.5),
    Target("1 event", "counted, against the commit before", _against_before("1"), 0.95, 1),
    Target("one at a time", "answer p50, against naive", _wait_against("alone", 0.5, _NAIVE),
           1, 0.5, is_maximum=True),
    Target("one at a time", "answer p50, against fair", _wait_against("alone", 0.5, _FAIR),
           1, 0.5, is_maximum=True),
    Target("200 single deliveries/s", "p50, against naive", _wait_against("latency", 0.5, _NAIVE),
           1, 1, is_maximum=True),
    Target("200 single deliveries/s", "p50, against fair", _wait_against("latency", 0.5, _FAIR),
           1, 1, is_maximum=True),
    Target("200 single deliveries/s", "p99, against naive", _wait_against("latency", 0.99, _NAIVE),
           1, 1, is_maximum=True),
    Target("200 single deliveries/s", "p99, against fair", _wait_against("latency", 0.99, _FAIR),
           1, 1, is_maximum=True),
    Target("200 single deliveries/s", "p99", _wait("latency", OURS, 0.99),
           100, 10, "ms", is_maximum=True),
    Target("100 events, sustained", "counted, against naive", _against("sustained", _NAIVE),
           10, 15),
    Target("100 events, sustained", "counted, against fair", _against("sustained", _FAIR), 6, 10),
    Target("100 events, sustained", "counted/s", _median("sustained"), 8_000, 12_000, ""),
    Target("100 events, sustained", "acknowledged/s", _acknowledged("sustained"),
           15_000, 15_000, ""),
    Target("100 events", "counted, against the commit before", _against_before("100"), 0.95, 1),
    Target("1000 events, 2 processes", "counted/s", _median("1000"), 10_000, 15_000, ""),
    Target("1000 events, 2 processes", "of the floor", _against("1000", "floor"), 0.3, 0.4),
    Target("1000 events, 2 processes", "counted, against the commit before",
           _against_before("1000"), 0.95, 1),
    Target("one automation", "of 200 automations",
           _ratio(_median("one", _ONE), _median("one", _MANY)), 0.8, 1),
    Target("500 single events/s", "stored to counted, p99", _wait("lag", OURS, 0.99),
           250, 60, "ms", is_maximum=True),
    Target("burst", "counted, of the sustained rate",
           _ratio(_median("burst"), _median("sustained")), 1, 1),
    Target("burst", "single deliveries beside it, p99", _wait("burst", OURS, 0.99),
           100, 100, "ms", is_maximum=True),
    Target("list, 50 automations", "p50 at any size", _list_median("ours,", is_largest=True),
           6, 4, "ms", is_maximum=True),
    Target("list, 50 automations", "largest against 10,000 runs",
           _ratio(_list_median("ours,", is_largest=True), _list_median("ours,", is_largest=False)),
           1.15, 1.15, is_maximum=True),
    Target("counting in trouble", "answers, of the usual", _worst_trouble, 0.9, 1),
)  # fmt: skip


def build_markdown(tables: Mapping[str, Table]) -> str:
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

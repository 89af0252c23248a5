"""The targets of the project, beside what a run measured."""

import statistics
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tests.benchmarks.figures import Result, Table

OURS = "ours, 2 processes"
Reader = Callable[[Mapping[str, Table]], float | None]
Figure = Callable[[Result], float | None]


class Target(NamedTuple):
    """One figure with a bound: `read` returns it, or None when the run has it not."""

    row: str
    figure: str
    read: Reader
    at_least: float
    aim: float
    unit: str = "x"
    is_maximum: bool = False  # the figure has to stay under its bounds


def _median(result: Result) -> float:
    return result.median


def _acknowledged(result: Result) -> float | None:
    return statistics.median(result.acknowledged) if result.acknowledged else None


def _wait(share: float) -> Figure:
    return lambda result: result.get_wait(share) * 1000


def _read(key: str, figure: Figure = _median, start: str = OURS) -> Reader:
    def read(tables: Mapping[str, Table]) -> float | None:
        found = tables[key].find(start) if key in tables else None
        return figure(found) if found is not None else None

    return read


def _ratio(above: Reader, below: Reader) -> Reader:
    def read(tables: Mapping[str, Table]) -> float | None:
        one, other = above(tables), below(tables)
        return one / other if one is not None and other else None

    return read


def _against(key: str, peer: str, figure: Figure = _median) -> Reader:
    return _ratio(_read(key, figure), _read(key, figure, peer))


def _worst_trouble(tables: Mapping[str, Table]) -> float | None:
    """Return the lowest share of the usual answers, of ours in any trouble."""
    if "trouble" not in tables:
        return None
    usual, *others = (one for one in tables["trouble"].results if one.name.startswith(OURS))
    return min(one.median for one in others) / usual.median if others and usual.median else None


def _worst_list(tables: Mapping[str, Table]) -> float | None:
    """Return the median of ours at the size where it is highest."""
    results = tables["list"].results if "list" in tables else ()
    return max((one.median for one in results if one.name.startswith("ours,")), default=None)


TARGETS = (
    *(
        Target("1 event", f"counted, against {peer}", _against("1", f"Node, {peer}"), least, 4.5)
        for peer, least in (("naive", 3.5), ("fair", 3.3))
    ),
    Target("1 event", "counted, against the commit before", _against("1", "ours at"), 0.95, 1),
    *(
        Target("one at a time", f"answer p50, against {peer}",
               _against("alone", f"Node, {peer}", _wait(0.5)), 1, 0.5, is_maximum=True)
        for peer in ("naive", "fair")
    ),
    *(
        Target("200 single deliveries/s", f"p{share * 100:.0f}, against {peer}",
               _against("latency", f"Node, {peer}", _wait(share)), 1, 1, is_maximum=True)
        for share in (0.5, 0.99)
        for peer in ("naive", "fair")
    ),
    Target("200 single deliveries/s", "p99", _read("latency", _wait(0.99)),
           100, 10, "ms", is_maximum=True),
    *(
        Target("100 events, sustained", f"counted, against {peer}",
               _against("sustained", f"Node, {peer}"), least, aim)
        for peer, least, aim in (("naive", 10, 15), ("fair", 6, 10))
    ),
    Target("100 events, sustained", "counted/s", _read("sustained"), 8_000, 12_000, ""),
    Target("100 events, sustained", "acknowledged/s", _read("sustained", _acknowledged),
           15_000, 15_000, ""),
    Target("100 events", "counted, against the commit before", _against("100", "ours at"),
           0.95, 1),
    Target("1000 events, 2 processes", "counted/s", _read("1000"), 10_000, 15_000, ""),
    Target("1000 events, 2 processes", "of the floor", _against("1000", "floor"), 0.3, 0.4),
    Target("1000 events, 2 processes", "counted, against the commit before",
           _against("1000", "ours at"), 0.95, 1),
    Target("one automation", "of 200 automations",
           _ratio(_read("one", start=f"{OURS}, one"), _read("one", start=f"{OURS}, 200")), 0.8, 1),
    Target("500 single events/s", "stored to counted, p99", _read("lag", _wait(0.99)),
           250, 60, "ms", is_maximum=True),
    Target("burst", "counted, of the sustained rate",
           _ratio(_read("burst"), _read("sustained")), 1, 1),
    Target("burst", "single deliveries beside it, p99", _read("burst", _wait(0.99)),
           100, 100, "ms", is_maximum=True),
    Target("list, 50 automations", "p50 at any size", _worst_list, 6, 4, "ms", is_maximum=True),
    Target("list, 50 automations", "largest against 10,000 runs",
           _ratio(_worst_list, _read("list", start="ours,")), 1.15, 1.15, is_maximum=True),
    Target("counting in trouble", "answers, of the usual", _worst_trouble, 0.9, 1),
)  # fmt: skip


def build_markdown(tables: Mapping[str, Table]) -> str:
    lines = ["| row | figure | measured | at least | | aim | |", "|---|---|--:|--:|---|--:|---|"]
    for target in TARGETS:
        value = target.read(tables)
        if value is None:
            continue
        cells = [target.row, target.figure, _show(value, target.unit)]
        for bound in (target.at_least, target.aim):
            is_met = value <= bound if target.is_maximum else value >= bound
            cells.append(f"{'under ' * target.is_maximum}{_show(bound, target.unit)}")
            cells.append("met" if is_met else "short")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _show(value: float, unit: str) -> str:
    if unit == "x":
        return f"{value:.2f} x"
    return f"{value:,.1f} {unit}".strip() if value < 100 else f"{value:,.0f} {unit}".strip()

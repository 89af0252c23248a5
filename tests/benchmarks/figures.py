"""Figures of a row, what is stored against what was acknowledged, and their table."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from pymongo.database import Database


class Result(msgspec.Struct):
    """One candidate's figures in one row: `values` has one of each round."""

    name: str
    values: list[float] = msgspec.field(default_factory=list)
    acknowledged: list[float] = msgspec.field(default_factory=list)  # events a second
    lags: list[float] = msgspec.field(default_factory=list)  # seconds until all is counted
    waits: list[float] = msgspec.field(default_factory=list)  # of all requests, seconds
    web_cpu: list[float] = msgspec.field(default_factory=list)  # microseconds per event
    mongod_cpu: list[float] = msgspec.field(default_factory=list)
    exactness: str = ""
    is_exact: bool = True
    notes: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.values) if self.values else 0.0

    def get_wait(self, share: float) -> float:
        """Return the wait, in seconds, that a share of the requests stayed within."""
        ordered = sorted(self.waits)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0

    def note_waits(self, waits: Sequence[float], share: float) -> str:
        """Note a round whose figure is the wait, in ms, that a share of its requests kept to."""
        self.values.append(sorted(waits)[int(share * len(waits))] * 1000)
        self.waits += waits
        return f"    {self.name}: p{share * 100:.0f} {self.values[-1]:.2f} ms of {len(waits)}"


class Table(msgspec.Struct):
    key: str
    title: str
    note: str
    unit: str
    results: list[Result]
    decimals: int = 0
    # Columns besides the median and the exactness; each empty for a candidate without it.
    columns: Sequence[str] = ()

    def find(self, start: str) -> Result | None:
        return next((one for one in self.results if one.name.startswith(start)), None)


Cell = Callable[[Table, Result], str]


def _ratio_to(start: str) -> Cell:
    def build(table: Table, result: Result) -> str:
        other = table.find(start)
        if other is None or other is result or not other.median:
            return ""
        return f"{result.median / other.median:.2f}"

    return build


def _milliseconds(share: float) -> Cell:
    return lambda _, result: f"{result.get_wait(share) * 1000:,.1f}" if result.waits else ""


def _median_of(values: Sequence[float]) -> str:
    return f"{statistics.median(values):,.0f}" if values else ""


COLUMNS: dict[str, tuple[str, Cell]] = {
    "naive": ("x naive", _ratio_to("Node, naive")),
    "fair": ("x fair", _ratio_to("Node, fair")),
    "floor": ("x floor", _ratio_to("floor")),
    "p50": ("p50 ms", _milliseconds(0.5)),
    "p99": ("p99 ms", _milliseconds(0.99)),
    "longest": ("longest wait ms", _milliseconds(1.0)),
    "acknowledged": ("acknowledged/s", lambda _, one: _median_of(one.acknowledged)),
    "lag": ("lag ms", lambda _, one: _median_of([lag * 1000 for lag in one.lags])),
    "web": ("web CPU us/event", lambda _, one: _median_of(one.web_cpu)),
    "mongod": ("mongod CPU us/event", lambda _, one: _median_of(one.mongod_cpu)),
}


def build_markdown(table: Table) -> str:
    columns = [COLUMNS[name] for name in table.columns]
    extra = list(dict.fromkeys(name for one in table.results for name in one.notes))
    headings = ["candidate", table.unit, "min .. max", *(heading for heading, _ in columns), *extra]
    lines = [f"### {table.title}", "", table.note, ""] if table.note else [f"### {table.title}", ""]
    lines.append(f"| {' | '.join([*headings, 'runs = totals = acknowledged'])} |")
    lines.append("|---" + "|--:" * (len(headings) - 1) + "|---|")
    for one in table.results:
        digits = table.decimals
        spread = f"{min(one.values):,.{digits}f} .. {max(one.values):,.{digits}f}"
        cells = [one.name, f"{one.median:,.{digits}f}", spread]
        cells += [build(table, one) for _, build in columns]
        cells += [one.notes.get(name, "") for name in extra]
        lines.append(f"| {' | '.join([*cells, one.exactness])} |")
    return "\n".join(lines)


class Counts(NamedTuple):
    runs: int
    totals: int | None
    acknowledged: int

    @property
    def is_exact(self) -> bool:
        return self.runs == self.acknowledged and self.totals in (None, self.acknowledged)

    def describe(self) -> str:
        if self.is_exact:
            return f"exact: {self.acknowledged:,}"
        parts = []
        for name, count in (("runs", self.runs), ("totals", self.totals)):
            if count is not None and count != self.acknowledged:
                parts.append(f"{name} {count - self.acknowledged:+,}")
        return f"**wrong**: {', '.join(parts)} of {self.acknowledged:,}"


def read_counts(
    database: Database[dict[str, Any]], *, acknowledged: int, has_totals: bool = True
) -> Counts:
    totals = None
    if has_totals:
        totals = sum(one["totalRuns"] for one in database["automations"].find())
    return Counts(database["automation_runs"].count_documents({}), totals, acknowledged)


def read_bytes_on_disk(database: Database[dict[str, Any]]) -> dict[str, int]:
    """Return what each collection's file and its indexes take, by name; after a checkpoint."""
    sizes = {}
    for name in database.list_collection_names():
        [row] = database[name].aggregate([{"$collStats": {"storageStats": {}}}])
        stats = row["storageStats"]
        sizes[name] = int(stats["storageSize"]) + int(stats["totalIndexSize"])
    return sizes

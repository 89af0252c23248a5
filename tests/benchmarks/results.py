"""RESULTS.md: the machine, the targets and every row of one run."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks import figures, targets
from tests.benchmarks.figures import Table
from tests.benchmarks.machine import describe_machine
from tests.benchmarks.options import Options

PATH = Path(__file__).with_name("RESULTS.md")


def build_report(
    tables: Sequence[Table],
    *,
    options: Options,
    mongod_version: str,
    remarks: Sequence[str],
    minutes: float,
) -> str:
    by_key = {table.key: table for table in tables}
    wrong = [
        f"{one.name} ({table.title})"
        for table in tables
        for one in table.results
        if one.name.startswith("ours") and not one.is_exact
    ]
    how = (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, one run of {minutes:.0f} minutes: "
        f"{options.rounds} rounds of {options.seconds:g} s for every candidate of a row, in "
        "changing order, each on a fresh database, after everything else had become idle. "
        "Figures are the median of the rounds; waits are of all requests."
    )
    where = (
        "The load generator, the candidate and mongod share these cores. Everything is measured "
        "as `serve` starts it, with its log lines written to a file and sending off."
    )
    lines = [
        "# Results of `make bench`",
        "",
        how,
        "",
        *(f"- {name}: {value}" for name, value in describe_machine(mongod_version)),
        *(f"- {remark}" for remark in remarks),
        "",
        where,
        "",
        "## Targets",
        "",
        targets.build_markdown(by_key),
        "",
        "**Not exact: " + ", ".join(wrong) + "**" if wrong else "Ours was exact in every row.",
        "",
        "## Rows",
        "",
        "\n\n".join(figures.build_markdown(table) for table in tables),
    ]
    return "\n".join(lines) + "\n"

"""RESULTS.md: the machine, the targets and every row of one run."""

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from tests.benchmarks import figures, targets
from tests.benchmarks.figures import Table
from tests.benchmarks.options import Options

PATH = Path(__file__).with_name("RESULTS.md")
_PACKAGES = ("Django", "pymongo", "granian")
_REPORT = """\
# Results of `make bench`

{now:%Y-%m-%d %H:%M} UTC, one run of {minutes:.0f} minutes: {rounds} rounds of {seconds:g} s for \
every candidate of a row, in changing order, each on a fresh database, after everything else had \
become idle. Figures are the median of the rounds; waits are of all requests.

{facts}

The load generator, the candidate and mongod share these cores. Everything is measured as `serve` \
starts it, with its log lines written to a file and sending off.

## Targets

{targets}

{exactness}

## Rows

{rows}
"""


def list_wrong(tables: Sequence[Table]) -> list[str]:
    return [
        f"{one.name} ({table.title})"
        for table in tables
        for one in table.results
        if one.name.startswith("ours") and not one.is_exact
    ]


def build_report(
    tables: Sequence[Table], wrong: list[str], *, options: Options, mongod: str,
    remarks: Sequence[str], minutes: float,
) -> str:  # fmt: skip
    exact = "Ours was exact in every row."
    return _REPORT.format(
        now=datetime.now(UTC),
        minutes=minutes,
        rounds=options.rounds,
        seconds=options.seconds,
        facts="\n".join(f"- {fact}" for fact in (*describe_machine(mongod), *remarks)),
        targets=targets.build_markdown({table.key: table for table in tables}),
        exactness=f"**Not exact: {', '.join(wrong)}**" if wrong else exact,
        rows="\n\n".join(figures.build_markdown(table) for table in tables),
    )


def describe_machine(mongod: str) -> list[str]:
    """The machine and the programs that a run was made with; no names, no paths."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    facts = [
        f"cores: {len(os.sched_getaffinity(0))}",
        f"CPU: {_read_field('/proc/cpuinfo', 'model name')}",
        f"memory: {int(_read_field('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.0f} GiB",
        f"kernel: {platform.system()} {platform.release().partition('-')[0]}",
        f"MongoDB: {mongod}, replica set of one, w: majority, journal, for everyone",
        f"Python: {platform.python_version()}; {versions}",
    ]
    if shutil.which("node"):
        done = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
        facts.append(f"Node: {done.stdout.strip()}")
    return facts


def _read_field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown 0"

"""`python -m tests.benchmarks`: all rows in one run, then RESULTS.md."""

import gc
import signal
import sys
import time
from collections.abc import Callable
from functools import partial

from tests.benchmarks import figures, results
from tests.benchmarks.bench import Bench, say
from tests.benchmarks.ceiling import measure_ceiling
from tests.benchmarks.figures import Table
from tests.benchmarks.options import read_options
from tests.benchmarks.rows import (
    dashboard,
    deliveries,
    duplicates,
    lag,
    latency,
    list_reads,
    one_automation,
    trouble,
)
from tests.benchmarks.rows import web_servers as web_servers_row

ROWS: dict[str, Callable[[Bench], list[Table]]] = {
    "1": partial(deliveries.run, events=1),
    "100": partial(deliveries.run, events=100),
    "1000": partial(deliveries.run, events=1000),
    "sustained": deliveries.run_sustained,
    "alone": deliveries.run_alone,
    "one": one_automation.run,
    "duplicates": duplicates.run_duplicates,
    "replay": duplicates.run_replay,
    "latency": latency.run,
    "lag": lag.run_steady,
    "burst": lag.run_burst,
    "trouble": trouble.run,
    "list": list_reads.run,
    "dashboard": dashboard.run,
    "webserver": web_servers_row.run,
}


def main() -> int:
    """Run the rows that are asked for; 1 when anything of ours was not exact."""
    options = read_options()
    # `finally` below cleans up then too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    began = time.monotonic()
    bench = Bench(options)
    tables: list[Table] = []
    try:
        remarks = [measure_ceiling(bench)]
        say(remarks[0])
        if bench.peer.why_not:
            remarks.append(f"the system we replace is left out: {bench.peer.why_not}")
        for name in options.rows:
            say(f"row {name}")
            gc.collect()
            made = ROWS[name](bench)
            tables += made
            for table in made:
                sys.stdout.write(f"\n{figures.build_markdown(table)}\n\n")
    finally:
        bench.close()
    minutes = (time.monotonic() - began) / 60
    report = results.build_report(
        tables,
        options=options,
        mongod_version=bench.server.version,
        remarks=remarks,
        minutes=minutes,
    )
    if options.is_complete:
        results.PATH.write_text(report)
        say(f"{results.PATH.name} is written; {minutes:.1f} minutes")
    else:
        sys.stdout.write(f"\n{report}\n")
        say(f"not a complete run: {results.PATH.name} is left as it is; {minutes:.1f} minutes")
    is_exact = all(
        one.is_exact for table in tables for one in table.results if one.name.startswith("ours")
    )
    return 0 if is_exact else 1


if __name__ == "__main__":
    raise SystemExit(main())

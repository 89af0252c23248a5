"""`python -m tests.benchmarks`: all rows in one run, then RESULTS.md."""

import gc
import signal
import sys
import time
from collections.abc import Callable
from functools import partial

from tests.benchmarks import figures, results
from tests.benchmarks.bench import Bench, say
from tests.benchmarks.figures import Table
from tests.benchmarks.options import EXTRA_ROW, read_options
from tests.benchmarks.rows import deliveries, reads, waits

ROWS: dict[str, Callable[[Bench], list[Table]]] = {
    "1": partial(deliveries.run, events=1),
    "100": partial(deliveries.run, events=100),
    "1000": partial(deliveries.run, events=1000),
    "sustained": deliveries.run_sustained,
    "alone": deliveries.run_alone,
    "one": deliveries.run_one,
    "duplicates": deliveries.run_duplicates,
    "replay": deliveries.run_replay,
    "latency": waits.run_latency,
    "lag": waits.run_steady,
    "burst": waits.run_burst,
    "trouble": waits.run_trouble,
    "list": reads.run,
    "dashboard": reads.run_dashboard,
    EXTRA_ROW: deliveries.run_web_servers,
}


def main() -> int:
    """Run the rows that are asked for; 1 when anything of ours was not exact."""
    options = read_options(ROWS)
    # `finally` below cleans up then too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    began = time.monotonic()
    bench = Bench(options)
    tables: list[Table] = []
    try:
        remarks = [deliveries.measure_ceiling(bench)]
        if bench.why_no_peer:
            remarks.append(f"the system we replace is left out: {bench.why_no_peer}")
        say("\n".join(remarks))
        for name in options.rows:
            say(f"row {name}")
            gc.collect()
            made = ROWS[name](bench)
            bench.end()
            tables += made
            for table in made:
                sys.stdout.write(f"\n{figures.build_markdown(table)}\n\n")
    finally:
        bench.close()
    minutes = (time.monotonic() - began) / 60
    wrong = results.list_wrong(tables)
    report = results.build_report(
        tables, wrong, options=options, mongod=bench.version, remarks=remarks, minutes=minutes
    )
    if options.is_complete:
        results.PATH.write_text(report)
        say(f"{results.PATH.name} is written; {minutes:.1f} minutes")
    else:
        sys.stdout.write(f"\n{report}\n")
        say(f"not a complete run: {results.PATH.name} is left as it is; {minutes:.1f} minutes")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())

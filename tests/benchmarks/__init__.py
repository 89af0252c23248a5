"""Speed beside exactness: `make bench`, or `python -m tests.benchmarks` from the root.

`BENCH_QUICK=1` is short, `BENCH_FULL=1` adds the list at 5 million runs, `BENCH_ROWS=100,list`
runs some rows (`webserver` only by name), `BENCH_ONLY=ours` some candidates; `BENCH_BEFORE=HEAD~9`
has that commit of ours beside them; `BENCH_ROUNDS` and `BENCH_SECONDS` change the cut. Only a
complete run writes RESULTS.md. Exit code 1: ours was not exact in some row.
"""

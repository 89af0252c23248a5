"""Speed beside exactness: `make bench`, or `python -m tests.benchmarks` from the root."""

"""Which web server `serve` should use, and with how many threads: `BENCH_ROWS=webserver`."""

from tests.benchmarks.bench import Bench, say
from tests.benchmarks.candidates import Candidate, granian, gunicorn
from tests.benchmarks.figures import Table
from tests.benchmarks.loads import Plan, run_load
from tests.benchmarks.rows.deliveries import CONNECTIONS

_THREADS = (8, 32, 64)


def run(bench: Bench) -> list[Table]:
    tables = []
    if gunicorn(1, 1) is None:
        say("gunicorn is left out: pip install -r tests/benchmarks/requirements.txt")
    for events in (1, 100):
        for processes in (1, 2):
            candidates: list[Candidate] = []
            for threads in _THREADS:
                found = [granian(processes, threads), gunicorn(processes, threads)]
                candidates += [one for one in found if one is not None]
            plan = Plan(events, CONNECTIONS[events])
            say(f" {events} events a delivery, {processes} processes")
            tables.append(
                Table(
                    key=f"webserver-{events}-{processes}",
                    title=f"Web server: {events} events, {processes} processes",
                    note=f"{plan.connections} connections.",
                    unit="events/s",
                    results=run_load(bench, [(one, plan) for one in candidates]),
                    columns=("p50", "p99", "longest", "web", "mongod"),
                )
            )
    return tables

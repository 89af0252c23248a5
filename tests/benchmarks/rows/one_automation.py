"""A viral post: all events on one automation, beside the same load on 200 automations."""

from tests.benchmarks.bench import Bench
from tests.benchmarks.candidates import serve
from tests.benchmarks.figures import Table
from tests.benchmarks.loads import Plan, run_load

EVENTS, CONNECTIONS = 100, 16


def run(bench: Bench) -> list[Table]:
    entries = []
    for candidate in (serve(2), *bench.before.list_servers(2), serve(4)):
        for is_one in (True, False):
            where = "one automation" if is_one else "200 automations"
            plan = Plan(EVENTS, CONNECTIONS, is_one=is_one, name=f"{candidate.name}, {where}")
            entries.append((candidate, plan))
    for candidate in bench.peer.find_mode("fair"):
        name = f"{candidate.name}, one automation"
        entries.append((candidate, Plan(EVENTS, CONNECTIONS, is_one=True, name=name)))
    return [
        Table(
            key="one",
            title="All events on one automation",
            note=f"Deliveries of {EVENTS} events, {CONNECTIONS} connections.",
            unit="events/s counted",
            results=run_load(bench, entries),
            columns=("fair", "acknowledged", "lag", "p50", "p99", "longest", "web", "mongod"),
        )
    ]

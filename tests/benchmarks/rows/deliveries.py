"""Deliveries of 1, 100 and 1000 events, as fast as they are acknowledged."""

from tests.benchmarks.bench import Bench
from tests.benchmarks.candidates import port, serve
from tests.benchmarks.figures import Result, Table
from tests.benchmarks.loads import Plan, run_load

# Events in a delivery -> connections.
CONNECTIONS = {1: 64, 100: 8, 1000: 4}


_COLUMNS = (
    *("naive", "fair", "floor", "acknowledged", "lag", "p50", "p99", "longest", "web", "mongod"),
)
_NOTE = "200 automations on 20 accounts; every event a new person."
_SUSTAINED_SECONDS = 30.0


def run(bench: Bench, events: int) -> list[Table]:
    plan = Plan(events, CONNECTIONS[events])
    candidates = [
        serve(2),
        *bench.before.list_servers(2),
        serve(1),
        *bench.peer.list_modes(),
        port(2),
    ]
    results = run_load(
        bench, [(one, plan) for one in candidates], has_floor=True, weighs=events == 100
    )
    noun = "event" if events == 1 else "events"
    title = f"Deliveries of {events} {noun}, {plan.connections} connections"
    return [_build_table(str(events), title, results)]


def run_alone(bench: Bench) -> list[Table]:
    candidates = [serve(2), *bench.before.list_servers(2), *bench.peer.list_modes(), port(2)]
    results = run_load(bench, [(one, Plan(1, 1)) for one in candidates])
    return [_build_table("alone", "One delivery of 1 event at a time", results)]


def run_sustained(bench: Bench) -> list[Table]:
    plan = Plan(100, CONNECTIONS[100])
    candidates = [serve(2), *bench.before.list_servers(2), *bench.peer.list_modes()]
    results = run_load(bench, [(one, plan) for one in candidates], once_for=_SUSTAINED_SECONDS)
    title = f"Deliveries of 100 events, {plan.connections} connections, sustained"
    return [_build_table("sustained", title, results)]


def _build_table(key: str, title: str, results: list[Result]) -> Table:
    return Table(
        key=key, title=title, note=_NOTE, unit="events/s counted", results=results,
        columns=_COLUMNS,
    )  # fmt: skip

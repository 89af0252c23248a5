"""Deliveries of 1, 100 and 1000 events, as fast as they are acknowledged."""

from __future__ import annotations

from tests.benchmarks.bench import Bench
from tests.benchmarks.candidates import port, serve
from tests.benchmarks.figures import Table
from tests.benchmarks.loads import Plan, run_load

# Events in a delivery -> connections.
CONNECTIONS = {1: 64, 100: 8, 1000: 4}


def run(bench: Bench, events: int) -> list[Table]:
    """Return the row of deliveries with so many events."""
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
    return [
        Table(
            key=str(events),
            title=f"Deliveries of {events} {noun}, {plan.connections} connections",
            note="200 automations on 20 accounts; every event a new person.",
            unit="events/s",
            results=results,
            columns=("naive", "fair", "floor", "p50", "p99", "longest", "web", "mongod"),
        )
    ]

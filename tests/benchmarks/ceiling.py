"""What the load generator itself can send on this machine, against a server that does nothing."""

import sys

from tests.benchmarks.bench import Bench
from tests.benchmarks.candidates import ROOT
from tests.benchmarks.client import Lane, run_lanes
from tests.benchmarks.processes import Process, choose_port
from tests.benchmarks.rows.deliveries import CONNECTIONS
from tests.benchmarks.workload import Workload, build_automations

_SECONDS = 1.0
_REQUESTS = {1: 2000, 100: 200, 1000: 40}


def measure_ceiling(bench: Bench) -> str:
    """Return a sentence with the deliveries per second for every size of delivery."""
    port = choose_port()
    process = Process(
        [sys.executable, "-m", "tests.benchmarks.null_server", str(port)],
        environment={}, cwd=ROOT, log=bench.server.directory / "null.log",
    )  # fmt: skip
    try:
        process.wait_until_listening(port)
        set_up = build_automations(200, workspaces=4)
        parts = []
        for events, connections in CONNECTIONS.items():
            requests = [
                one.request for one in Workload(set_up, events=events).build(_REQUESTS[events])
            ]
            lane = Lane(port, requests, connections=connections, is_endless=True)
            run_lanes([lane], seconds=_SECONDS)
            parts.append(f"{len(lane.answers) / lane.seconds:,.0f} of {events}")
    finally:
        process.stop()
    return f"the load generator's own ceiling, deliveries/s: {', '.join(parts)} events"

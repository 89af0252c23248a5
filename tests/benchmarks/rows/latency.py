"""How long Meta waits for an acknowledgement when single deliveries come at a steady rate."""

import random

from tests.benchmarks.bench import Bench, order_round, say
from tests.benchmarks.candidates import port, serve
from tests.benchmarks.client import Lane, run_lanes
from tests.benchmarks.figures import Table
from tests.benchmarks.loads import AUTOMATIONS, Contestant, Plan
from tests.benchmarks.workload import Workload, build_automations

RATE = 200  # deliveries a second
_CONNECTIONS = 64


def run(bench: Bench) -> list[Table]:
    plan = Plan(1, _CONNECTIONS)
    set_up = build_automations(AUTOMATIONS, workspaces=AUTOMATIONS // 50)
    load = Workload(set_up, events=1)
    candidates = bench.choose(
        [serve(2), *bench.before.list_servers(2), *bench.peer.list_modes(), port(2)]
    )
    contestants = [Contestant(bench, candidate, plan, set_up) for candidate in candidates]
    running = [contestant.running for contestant in contestants]
    try:
        warm_up = load.build(400)
        for contestant in contestants:
            contestant.load(warm_up, seconds=10, is_counted=False)
        for number in range(1, bench.options.rounds + 1):
            say(f"  round {number} of {bench.options.rounds}")
            due = draw_arrivals(number, rate=RATE, seconds=bench.options.seconds)
            deliveries = load.build(len(due))
            for contestant in order_round(contestants, number):
                bench.settle(running)
                lane = Lane(
                    contestant.running.port,
                    [delivery.request for delivery in deliveries],
                    connections=_CONNECTIONS,
                    due=due,
                )
                run_lanes([lane], seconds=bench.options.seconds + 30)
                _note(contestant, lane)
                contestant.refused += [deliveries[index] for index in lane.list_refused()]
                contestant.send_refused_again()
        results = [contestant.conclude() for contestant in contestants]
    finally:
        bench.end(running)
    return [
        Table(
            key="latency",
            title=f"Acknowledgement at {RATE} single deliveries a second",
            note="Arrivals at random (Poisson), the same for all.",
            unit="p99 ms of a round",
            decimals=1,
            results=results,
            columns=("p50", "p99", "longest"),
        )
    ]


def draw_arrivals(seed: int, *, rate: float, seconds: float) -> list[float]:
    """Return moments at random (Poisson), the same for the same seed."""
    rng = random.Random(seed)
    due = [rng.expovariate(rate)]
    while due[-1] < seconds:
        due.append(due[-1] + rng.expovariate(rate))
    return due


def _note(contestant: Contestant, lane: Lane) -> None:
    contestant.acknowledged += len(lane.answers)
    waits = sorted(answer.seconds for answer in lane.answers)
    contestant.result.values.append(waits[int(0.99 * len(waits))] * 1000)
    contestant.result.waits += waits
    say(f"    {contestant.result.name}: p99 {contestant.result.values[-1]:.1f} ms")

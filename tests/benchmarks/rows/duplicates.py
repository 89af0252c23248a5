"""Half of the events are duplicates; and everything comes again."""

from tests.benchmarks.bench import Bench, order_round, say
from tests.benchmarks.candidates import port, serve
from tests.benchmarks.client import Lane, run_lanes
from tests.benchmarks.figures import Table
from tests.benchmarks.loads import AUTOMATIONS, Contestant, Plan, run_load
from tests.benchmarks.workload import Workload, build_automations

EVENTS, CONNECTIONS = 100, 8
_REPLAYED_DELIVERIES = 32


def run_duplicates(bench: Bench) -> list[Table]:
    plan = Plan(EVENTS, CONNECTIONS, is_doubled=True)
    candidates = [serve(2), *bench.before.list_servers(2), *bench.peer.list_modes(), port(2)]
    return [
        Table(
            key="duplicates",
            title="50 % duplicates",
            note=(
                f"Deliveries of {EVENTS} events, {CONNECTIONS} connections. Of each two "
                "neighbours the second has the same people, commenting again."
            ),
            unit="events/s",
            results=run_load(bench, [(one, plan) for one in candidates]),
            columns=(
                "naive",
                "fair",
                "acknowledged",
                "lag",
                "p50",
                "p99",
                "longest",
                "web",
                "mongod",
            ),
        )
    ]


def run_replay(bench: Bench) -> list[Table]:
    plan = Plan(EVENTS, CONNECTIONS)
    set_up = build_automations(AUTOMATIONS, workspaces=AUTOMATIONS // 50)
    deliveries = Workload(set_up, events=EVENTS).build(_REPLAYED_DELIVERIES)
    candidates = bench.choose([serve(2), *bench.before.list_servers(2), *bench.peer.list_modes()])
    contestants = [Contestant(bench, candidate, plan, set_up) for candidate in candidates]
    running = [contestant.running for contestant in contestants]
    try:
        for contestant in contestants:
            contestant.load(deliveries, seconds=60, is_counted=False)
        for number in range(1, bench.options.rounds + 1):
            say(f"  round {number} of {bench.options.rounds}")
            for contestant in order_round(contestants, number):
                bench.settle(running)
                _replay(bench, contestant, [one.request for one in deliveries])
        results = [contestant.conclude() for contestant in contestants]
    finally:
        bench.end(running)
    return [
        Table(
            key="replay",
            title="Replay of everything",
            note=(
                f"The same {EVENTS * _REPLAYED_DELIVERIES:,} events again and again, in "
                f"deliveries of {EVENTS}, {CONNECTIONS} connections: none may count."
            ),
            unit="events/s",
            results=results,
            columns=("naive", "fair", "p50", "p99", "longest"),
        )
    ]


def _replay(bench: Bench, contestant: Contestant, requests: list[bytes]) -> None:
    lane = Lane(contestant.running.port, requests, connections=CONNECTIONS, is_endless=True)
    run_lanes([lane], seconds=bench.options.seconds)
    result = contestant.result
    result.values.append(len(lane.list_acknowledged()) * EVENTS / lane.seconds)
    result.waits += [answer.seconds for answer in lane.answers]
    say(f"    {result.name}: {result.values[-1]:,.0f} events/s")

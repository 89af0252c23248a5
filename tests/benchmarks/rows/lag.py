"""How long a stored trigger waits until it is counted: at a steady rate, and after a burst."""

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pymongo.database import Database

from tests.benchmarks.bench import Bench, order_round, say
from tests.benchmarks.candidates import serve
from tests.benchmarks.client import Lane, run_lanes
from tests.benchmarks.figures import Table
from tests.benchmarks.loads import AUTOMATIONS, Contestant, Plan
from tests.benchmarks.rows.latency import draw_arrivals
from tests.benchmarks.workload import Delivery, Workload, build_automations

RATE = 500  # single deliveries a second
BURST_EVENTS, BURST_QUICK_EVENTS = 200_000, 20_000
_CONNECTIONS = 64
_BURST_PLAN = Plan(100, 8)
_BESIDE_PER_SECOND = 20
_LEFT_SECONDS = 5.0


def run_steady(bench: Bench) -> list[Table]:
    set_up = build_automations(AUTOMATIONS, workspaces=AUTOMATIONS // 50)
    load = Workload(set_up, events=1)
    candidates = bench.choose([serve(2), *bench.before.list_servers(2)])
    contestants = [Contestant(bench, one, Plan(1, _CONNECTIONS), set_up) for one in candidates]
    try:
        for one in contestants:
            one.load(load.build(400), seconds=10, is_counted=False)
        for number in range(1, bench.options.rounds + 1):
            due = draw_arrivals(number, rate=RATE, seconds=bench.options.seconds)
            deliveries = load.build(len(due))
            for one in order_round(contestants, number):
                bench.settle([each.running for each in contestants])
                database = bench.server.get_database(one.running.database)
                since = database.client.admin.command("ping")["operationTime"]
                lane = Lane(
                    one.running.port, [each.request for each in deliveries],
                    connections=_CONNECTIONS, due=due,
                )  # fmt: skip
                run_lanes([lane], seconds=bench.options.seconds + 30)
                one.acknowledged += len(lane.answers)
                one.refused += [deliveries[index] for index in lane.list_refused()]
                one.send_refused_again()
                bench.measure_lag(one.running)
                waits = sorted(_list_lags(database, since, len(deliveries)))
                one.result.values.append(waits[int(0.99 * len(waits))] * 1000)
                one.result.waits += waits
                say(f"    {one.result.name}: p99 {one.result.values[-1]:.1f} ms")
        results = [one.conclude() for one in contestants]
    finally:
        bench.end([one.running for one in contestants])
    return [
        Table(
            key="lag",
            title=f"From stored to counted at {RATE} single events a second",
            note="From the arrival, as the run has it, to the commit of the run in the oplog.",
            unit="p99 ms of a round",
            decimals=1,
            results=results,
            columns=("p50", "p99", "longest"),
        )
    ]


def _list_lags(database: Database[dict[str, Any]], since: Any, count: int) -> Iterator[float]:
    """Yield for each run inserted since then how long after its arrival it was committed."""
    pipeline = [
        {"$match": {"operationType": "insert"}},
        {"$project": {"wallTime": 1, "at": "$fullDocument.createdAt"}},
    ]
    runs = database["automation_runs"]
    with runs.watch(pipeline, start_at_operation_time=since, batch_size=1000) as stream:
        for _ in range(count):
            change = stream.next()
            yield (change["wallTime"] - change["at"]).total_seconds()


def run_burst(bench: Bench) -> list[Table]:
    events = BURST_QUICK_EVENTS if bench.options.is_quick else BURST_EVENTS
    set_up = build_automations(AUTOMATIONS, workspaces=AUTOMATIONS // 50)
    results = []
    for candidate in bench.choose([serve(2), *bench.before.list_servers(2)]):
        one = Contestant(bench, candidate, _BURST_PLAN, set_up)
        try:
            load = Workload(set_up, events=_BURST_PLAN.events)
            one.load(load.build(100), seconds=_LEFT_SECONDS, is_counted=False)
            bench.settle([one.running])
            _burst(bench, one, load, events // _BURST_PLAN.events)
            result = one.conclude()
            disorder = _count_disorder(bench.server.get_database(one.running.database))
            result.notes["out of order"] = f"{disorder:,}"
            results.append(result)
        finally:
            bench.end([one.running])
    return [
        Table(
            key="burst",
            title=f"A burst of {events:,} events",
            note=(
                f"Deliveries of {_BURST_PLAN.events}, as fast as they are acknowledged, until all "
                f"is counted; waits are those of {_BESIDE_PER_SECOND} single deliveries a second "
                "from the beginning to then."
            ),
            unit="events/s counted",
            results=results,
            columns=("acknowledged", "lag", "p50", "p99", "longest"),
        )
    ]


def _burst(bench: Bench, one: Contestant, load: Workload, count: int) -> None:
    """Let the burst come, and single deliveries beside it until all is counted."""
    beside = Workload(one.set_up, events=1, first_person=50_000_000)
    deliveries = load.build(count)
    burst = threading.Thread(
        target=one.load, args=(deliveries,), kwargs={"seconds": 600.0, "is_counted": True}
    )
    burst.start()
    waits: list[float] = []
    acknowledged = 0
    refused: list[Delivery] = []
    while burst.is_alive():
        some = beside.build(_BESIDE_PER_SECOND)
        due = [number / _BESIDE_PER_SECOND for number in range(len(some))]
        lane = Lane(one.running.port, [each.request for each in some], connections=4, due=due)
        run_lanes([lane], seconds=30)
        acknowledged += len(lane.answers)
        refused += [some[index] for index in lane.list_refused()]
        waits += [answer.seconds for answer in lane.answers]
    burst.join()
    one.acknowledged += acknowledged
    one.refused += refused
    one.send_refused_again()
    one.result.waits = waits


def _count_disorder(database: Database[dict[str, Any]]) -> int:
    """Return how many runs of an automation were inserted after one that arrived later."""
    newest: dict[str, datetime] = {}
    found: Counter[str] = Counter()
    runs = database["automation_runs"].find({}, {"automationId": 1, "createdAt": 1})
    for run in runs.sort("$natural", 1):
        key, at = run["automationId"], run["createdAt"]
        found[key] += at < newest.get(key, at)
        newest[key] = max(at, newest.get(key, at))
    return found.total()

"""How long single deliveries wait: for their answer, to be counted, and in trouble."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from pymongo.database import Database

from tests.benchmarks.bench import Bench, say
from tests.benchmarks.candidates import Candidate, run_command
from tests.benchmarks.client import Lane, run_lanes
from tests.benchmarks.figures import Result, Table
from tests.benchmarks.loads import Contestant, Plan, run_load, set_up_automations
from tests.benchmarks.workload import Delivery, Workload

LATENCY_RATE, LAG_RATE = 200, 500  # single deliveries a second
BURST_EVENTS, BURST_QUICK_EVENTS = 200_000, 20_000
_CONNECTIONS = 64
_BURST_PLAN = Plan(100, 8)
_BESIDE_PER_SECOND = 20
_LEFT_SECONDS = 5.0
_INDEX = "not_ours"
_COLUMNS = ("p50", "p99", "longest")


def run_latency(bench: Bench) -> list[Table]:
    def list_waits(lane: Lane, _one: Contestant, _since: Any) -> list[float]:
        return [answer.seconds for answer in lane.answers]

    results = _run_paced(bench, bench.line_up(has_port=True), LATENCY_RATE, list_waits)
    title = f"Acknowledgement at {LATENCY_RATE} single deliveries a second"
    note, unit = "Arrivals at random (Poisson), the same for all.", "p99 ms of a round"
    return [Table("latency", title, note, unit, results, decimals=1, columns=_COLUMNS)]


def run_steady(bench: Bench) -> list[Table]:
    def list_lags(lane: Lane, one: Contestant, since: Any) -> list[float]:
        one.send_refused_again()
        bench.measure_lag(one.running)
        return list(_list_lags(one.db, since, len(lane.requests)))

    results = _run_paced(bench, bench.line_up(modes=()), LAG_RATE, list_lags)
    title = f"From stored to counted at {LAG_RATE} single events a second"
    note = "From the arrival, as the run has it, to the commit of the run in the oplog."
    return [Table("lag", title, note, "p99 ms of a round", results, decimals=1, columns=_COLUMNS)]


def _run_paced(
    bench: Bench, candidates: list[Candidate], rate: float,
    list_waits: Callable[[Lane, Contestant, Any], list[float]],
) -> list[Result]:  # fmt: skip
    """Send single deliveries at random moments of this rate, and note the p99 of the waits."""
    load = Workload(set_up_automations(), events=1)
    contestants = [Contestant(bench, one, Plan(1, _CONNECTIONS)) for one in candidates]
    warm_up = load.build(400)
    for one in contestants:
        one.load(warm_up, seconds=10)

    def prepare(number: int) -> Callable[[Contestant], None]:
        due = draw_arrivals(number, rate=rate, seconds=bench.options.seconds)
        deliveries = load.build(len(due))

        def measure(one: Contestant) -> None:
            since = bench.client.admin.command("ping")["operationTime"]
            lane = one.build_lane(deliveries, due=due)
            run_lanes([lane], seconds=bench.options.seconds + 30)
            one.note(lane, deliveries)
            say(one.result.note_waits(list_waits(lane, one, since), 0.99))
            one.send_refused_again()

        return measure

    bench.run_rounds(contestants, prepare, range(1, bench.options.rounds + 1))
    return [one.conclude() for one in contestants]


def draw_arrivals(seed: int, *, rate: float, seconds: float) -> list[float]:
    """Return moments at random (Poisson), the same for the same seed."""
    rng = random.Random(seed)
    due = [rng.expovariate(rate)]
    while due[-1] < seconds:
        due.append(due[-1] + rng.expovariate(rate))
    return due


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
    results = []
    for candidate in bench.line_up(modes=()):
        one = Contestant(bench, candidate, _BURST_PLAN)
        load = Workload(set_up_automations(), events=_BURST_PLAN.events)
        one.load(load.build(100), seconds=_LEFT_SECONDS)
        bench.settle()
        _burst(one, load.build(events // _BURST_PLAN.events))
        result = one.conclude()
        result.notes["out of order"] = f"{_count_disorder(one.db):,}"
        results.append(result)
        bench.end()
    note = (
        f"Deliveries of {_BURST_PLAN.events}, as fast as they are acknowledged, until all is "
        f"counted; waits are those of {_BESIDE_PER_SECOND} single deliveries a second from the "
        "beginning to then."
    )
    title, columns = f"A burst of {events:,} events", ("acknowledged", "lag", *_COLUMNS)
    return [Table("burst", title, note, "events/s counted", results, columns=columns)]


def _burst(one: Contestant, deliveries: list[Delivery]) -> None:
    beside = Workload(set_up_automations(), events=1, first_person=50_000_000)
    burst = threading.Thread(
        target=one.load, args=(deliveries,), kwargs={"seconds": 600.0, "is_counted": True}
    )
    burst.start()
    sent: list[tuple[Lane, list[Delivery]]] = []
    while burst.is_alive():
        some = beside.build(_BESIDE_PER_SECOND)
        due = [number / _BESIDE_PER_SECOND for number in range(len(some))]
        lane = one.build_lane(some, connections=4, due=due)
        run_lanes([lane], seconds=30)
        sent.append((lane, some))
    burst.join()
    for lane, some in sent:
        one.note(lane, some)
    one.send_refused_again()
    one.result.waits = [answer.seconds for lane, _ in sent for answer in lane.answers]


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


# Options of an index that is not ours, or None where counting is off.
TROUBLES: dict[str, dict[str, Any] | None] = {
    "as usual": {},
    "counting off": None,
    # No second run can be inserted.
    "odd index": {"unique": True},
    # No second run of one automation can be.
    "poison": {
        "unique": True,
        "partialFilterExpression": {"automationId": "automation-0000"},
    },
}


def run_trouble(bench: Bench) -> list[Table]:
    """What keeps counting from its work keeps no delivery from its answer."""
    entries = [
        (candidate, Plan(1, _CONNECTIONS, name=f"{candidate.name}, {name}"))
        for candidate in bench.line_up(modes=())
        for name in TROUBLES
    ]
    results = run_load(bench, entries, begin=_begin_trouble, repair=_end_trouble)
    for result in results:
        result.values = result.acknowledged
    title = f"Answers while counting is in trouble, {_CONNECTIONS} connections"
    note = "Deliveries of 1 event. Afterwards the trouble ends, and everything is counted."
    unit, columns = "events/s acknowledged", (*_COLUMNS, "web", "mongod")
    return [Table("trouble", title, note, unit, results, columns=columns)]


def _find_trouble(one: Contestant) -> dict[str, Any] | None:
    return TROUBLES[one.result.name.rpartition(", ")[2]]


def _begin_trouble(one: Contestant) -> None:
    index = _find_trouble(one)
    one.is_counting = index == {}
    if index is None:
        _switch(one, "off")
    elif index:
        one.db["automation_runs"].create_index("triggerType", name=_INDEX, **index)


def _end_trouble(one: Contestant) -> None:
    index = _find_trouble(one)
    if index is None:
        _switch(one, "on")
    elif index:
        one.db["automation_runs"].drop_index(_INDEX)
        try:
            _switch(one, "retry")
        except RuntimeError:  # an older commit, which has nothing to try again
            _switch(one, "on")
    one.is_counting = True
    one.send_refused_again()


def _switch(one: Contestant, action: str) -> None:
    uri = one.bench.build_uri(one.db.name)
    run_command("tracking", action, uri=uri, root=one.running.candidate.root)

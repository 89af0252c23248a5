"""Rounds of deliveries: each candidate in turn, as fast as it answers, on a database of its own."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.benchmarks.bench import Bench, order_round, say
from tests.benchmarks.candidates import Candidate, Running
from tests.benchmarks.client import Lane, run_lanes
from tests.benchmarks.counts import read_bytes_on_disk, read_counts
from tests.benchmarks.figures import Result
from tests.benchmarks.floor import BATCH, NAME, Floor
from tests.benchmarks.profiling import profile
from tests.benchmarks.workload import (
    Automations,
    Delivery,
    Workload,
    build_automations,
    count_people,
)

AUTOMATIONS = 200
_WARM_UP_SECONDS = 2.0
_RESERVE = 1.5  # more deliveries are built than the fastest candidate took before
_LEAST_DELIVERIES = 48
_MOST_ROUNDS = 6  # that a sustained one is as long as: 30 s, quickly 12


class Plan(NamedTuple):
    events: int
    connections: int
    is_one: bool = False  # all events on one automation
    is_doubled: bool = False  # half of the events are duplicates
    name: str = ""  # in place of the candidate's own


class Contestant:
    """A candidate in a row: its server, and what it has acknowledged."""

    def __init__(self, bench: Bench, candidate: Candidate, plan: Plan, set_up: Automations) -> None:
        self.bench = bench
        self.plan = plan
        self.set_up = set_up
        self.running: Running = bench.start(candidate, set_up)
        self.result = Result(plan.name or candidate.name)
        self.acknowledged = 0
        self.refused: list[Delivery] = []
        self.put_off = 0
        self.fastest = 0.0  # deliveries a second
        self.is_counting = True  # False where something keeps it from that: refused ones wait

    def load(self, deliveries: Sequence[Delivery], *, seconds: float, is_counted: bool) -> None:
        """Send for so long, then again whatever was not acknowledged, as Meta does."""
        lane = self._build_lane(deliveries)
        before = self.bench.read_cpu(self.running)
        with profile(self.bench, self.running, seconds=seconds, is_on=is_counted):
            run_lanes([lane], seconds=seconds)
            lag = self.bench.measure_lag(self.running) if self.is_counting else 0.0
        after = self.bench.read_cpu(self.running)
        done = lane.list_acknowledged()
        events = sum(len(deliveries[index].people) for index in done)
        self.acknowledged += count_people(deliveries, [one.number for one in lane.answers])
        self.fastest = max(self.fastest, len(done) / lane.seconds)
        self.refused += [deliveries[index] for index in lane.list_refused()]
        if self.is_counting:
            self.send_refused_again()
        if is_counted:
            self.result.values.append(events / (lane.seconds + lag))
            self.result.acknowledged.append(events / lane.seconds)
            self.result.lags.append(lag)
            self.result.waits += [answer.seconds for answer in lane.answers]
            self.result.web_cpu.append((after[0] - before[0]) / max(events, 1) * 1e6)
            self.result.mongod_cpu.append((after[1] - before[1]) / max(events, 1) * 1e6)
            wait = max(answer.seconds for answer in lane.answers)
            say(
                f"    {self.result.name}: {self.result.values[-1]:,.0f} events/s counted, "
                f"{events / lane.seconds:,.0f} acknowledged, longest wait {wait * 1000:,.0f} ms"
            )

    def _build_lane(self, deliveries: Sequence[Delivery]) -> Lane:
        requests = [delivery.request for delivery in deliveries]
        return Lane(self.running.port, requests, connections=self.plan.connections)

    def send_refused_again(self) -> None:
        """Send what was refused until it is acknowledged, as Meta does."""
        self.put_off += len(self.refused)
        for _ in range(20):
            if not self.refused:
                return
            part = self.refused
            lane = self._build_lane(part)
            run_lanes([lane], seconds=60)
            self.refused = [part[index] for index in lane.list_refused()]
        raise RuntimeError(f"{self.result.name} refuses {len(self.refused)} deliveries for good")

    def conclude(self) -> Result:
        self.bench.measure_lag(self.running)
        counts = read_counts(
            self.bench.server.get_database(self.running.database), acknowledged=self.acknowledged
        )
        self.result.exactness, self.result.is_exact = counts.describe(), counts.is_exact
        if self.put_off:
            self.result.exactness += f" ({self.put_off} put off, sent again)"
        say(f"    {self.result.name}: {self.result.exactness}")
        return self.result


class FloorContestant:
    def __init__(self, bench: Bench, set_up: Automations) -> None:
        self.bench = bench
        self.database = bench.server.create_database(set_up.documents)
        self.floor = Floor(bench.server.get_database(self.database), set_up.documents)
        self.result = Result(NAME)
        self.run(seconds=0.5, is_counted=False)

    def run(self, *, seconds: float, is_counted: bool = True) -> None:
        rate = max(self.result.values, default=40_000.0)
        before = self.bench.read_cpu(None)
        runs, took = self.floor.run(
            seconds=seconds, batches=int(rate * seconds * _RESERVE / BATCH) + 1
        )
        if is_counted:
            self.result.values.append(runs / took)
            cpu = self.bench.read_cpu(None)[1] - before[1]
            self.result.mongod_cpu.append(cpu / runs * 1e6)
            say(f"    {self.result.name}: {runs / took:,.0f} runs/s")

    def conclude(self) -> Result:
        counts = read_counts(
            self.bench.server.get_database(self.database),
            acknowledged=self.floor.inserted,
            has_totals=False,
        )
        self.result.exactness, self.result.is_exact = counts.describe(), counts.is_exact
        return self.result


Step = Callable[[Contestant], None]


def _do_nothing(_: Contestant) -> None: ...


def run_load(
    bench: Bench,
    entries: Sequence[tuple[Candidate, Plan]],
    *,
    has_floor: bool = False,
    weighs: bool = False,
    once_for: float = 0.0,
    prepare: Step = _do_nothing,
    repair: Step = _do_nothing,
) -> list[Result]:
    """Run the rounds of one row and return every candidate's figures, in the order given.

    All entries have the same number of events in a delivery. The deliveries of a round are the
    same for all candidates with the same kind of load. `once_for` is one round of so many seconds;
    `prepare` comes before the first round, `repair` after the last.
    """
    rounds, seconds = bench.options.rounds, bench.options.seconds
    if once_for:
        rounds, seconds = 1, min(once_for, seconds * _MOST_ROUNDS)
    entries = [entry for entry in entries if bench.options.is_wanted(entry[0].name)]
    set_up = build_automations(AUTOMATIONS, workspaces=AUTOMATIONS // 50)
    contestants = [Contestant(bench, candidate, plan, set_up) for candidate, plan in entries]
    floor = FloorContestant(bench, set_up) if has_floor and bench.options.is_wanted(NAME) else None
    loads = {
        plan.is_one: Workload(set_up, events=plan.events, is_one=plan.is_one) for _, plan in entries
    }
    try:
        for one in contestants:
            prepare(one)
        _run_round(bench, contestants, None, loads, number=0, seconds=_WARM_UP_SECONDS)
        for number in range(1, rounds + 1):
            say(f"  round {number} of {rounds}")
            _run_round(bench, contestants, floor, loads, number=number, seconds=seconds)
        for one in contestants:
            repair(one)
        results = [contestant.conclude() for contestant in contestants]
        if floor is not None:
            results.append(floor.conclude())
        if weighs:
            _weigh(bench, [(one.result, one.running.database) for one in contestants])
            if floor is not None:
                _weigh(bench, [(floor.result, floor.database)])
    finally:
        bench.end([contestant.running for contestant in contestants])
        if floor is not None:
            bench.server.drop_database(floor.database)
    return results


def _run_round(
    bench: Bench,
    contestants: Sequence[Contestant],
    floor: FloorContestant | None,
    loads: dict[bool, Workload],
    *,
    number: int,
    seconds: float,
) -> None:
    is_warm_up = number == 0
    built: dict[bool, list[Delivery]] = {}
    for is_one, load in loads.items():
        wanted = max((one.fastest for one in contestants if one.plan.is_one == is_one), default=0.0)
        count = int(wanted * seconds * _RESERVE) if wanted else int(3000 / load.events**0.6)
        count = max(count, _LEAST_DELIVERIES)
        doubled = any(one.plan.is_doubled for one in contestants)
        built[is_one] = load.build_doubled(count) if doubled else load.build(count)
    running = [contestant.running for contestant in contestants]
    everybody: list[Contestant | FloorContestant] = [*contestants]
    if floor is not None:
        everybody.append(floor)
    for contestant in order_round(everybody, number):
        bench.settle(running)
        if isinstance(contestant, FloorContestant):
            contestant.run(seconds=seconds)
        else:
            deliveries = built[contestant.plan.is_one]
            contestant.load(deliveries, seconds=seconds, is_counted=not is_warm_up)


def _weigh(bench: Bench, databases: Sequence[tuple[Result, str]]) -> None:
    """Note the bytes on disk per run: of the run documents, and of everything."""
    bench.server.write_checkpoint()
    for result, name in databases:
        database = bench.server.get_database(name)
        sizes = read_bytes_on_disk(database)
        runs = max(database["automation_runs"].count_documents({}), 1)
        result.notes["bytes/run on disk"] = f"{sum(sizes.values()) / runs:,.0f}"
        result.notes["of these runs + indexes"] = f"{sizes['automation_runs'] / runs:,.0f}"

"""Rounds of deliveries: each candidate in turn, as fast as it answers, on a database of its own."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from bson import ObjectId

from tests.benchmarks.bench import Bench, read_cpu_seconds, say
from tests.benchmarks.candidates import Candidate
from tests.benchmarks.client import Lane, run_lanes
from tests.benchmarks.figures import Result, read_bytes_on_disk, read_counts
from tests.benchmarks.workload import (
    PER_ACCOUNT,
    Delivery,
    Document,
    Workload,
    build_automations,
    count_people,
    pick_text,
)

AUTOMATIONS = 200
FLOOR_BATCH = 1000
FLOOR = f"floor: insert_many of {FLOOR_BATCH} runs"
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


def set_up_automations() -> list[Document]:
    return build_automations(AUTOMATIONS, workspaces=AUTOMATIONS // 50)


class Contestant:
    def __init__(self, bench: Bench, candidate: Candidate, plan: Plan) -> None:
        self.bench = bench
        self.plan = plan
        self.running = bench.start(candidate, bench.create_database(set_up_automations()))
        self.db = self.running.db
        self.result = Result(plan.name or candidate.name)
        self.acknowledged = 0
        self.refused: list[Delivery] = []
        self.put_off = 0
        self.fastest = 0.0  # deliveries a second
        self.is_counting = True  # False where something keeps it from that: refused ones wait

    def load(
        self, deliveries: Sequence[Delivery], *, seconds: float, is_counted: bool = False
    ) -> None:
        """Send for so long, then again whatever was not acknowledged, as Meta does."""
        lane = self.build_lane(deliveries)
        pids = ([self.running.pid], [self.bench.mongod])
        before = [read_cpu_seconds(one) for one in pids]
        run_lanes([lane], seconds=seconds)
        lag = self.bench.measure_lag(self.running) if self.is_counting else 0.0
        web, mongod = (read_cpu_seconds(one) - was for one, was in zip(pids, before, strict=True))
        done = lane.list_acknowledged()
        events = sum(len(deliveries[index].people) for index in done)
        self.fastest = max(self.fastest, len(done) / lane.seconds)
        self.note(lane, deliveries)
        if self.is_counting:
            self.send_refused_again()
        if is_counted:
            waits = [answer.seconds for answer in lane.answers]
            self.result.values.append(events / (lane.seconds + lag))
            self.result.acknowledged.append(events / lane.seconds)
            self.result.lags.append(lag)
            self.result.waits += waits
            self.result.web_cpu.append(web / max(events, 1) * 1e6)
            self.result.mongod_cpu.append(mongod / max(events, 1) * 1e6)
            say(
                f"    {self.result.name}: {self.result.values[-1]:,.0f} events/s counted, "
                f"{events / lane.seconds:,.0f} acknowledged, "
                f"longest wait {max(waits) * 1000:,.0f} ms"
            )

    def build_lane(self, deliveries: Sequence[Delivery], **options: Any) -> Lane:
        requests = [delivery.request for delivery in deliveries]
        options.setdefault("connections", self.plan.connections)
        return Lane(self.running.port, requests, **options)

    def note(self, lane: Lane, deliveries: Sequence[Delivery]) -> None:
        """Note what has to be counted in the end, and what has to be sent again for that."""
        self.acknowledged += count_people(deliveries, [one.number for one in lane.answers])
        self.refused += [deliveries[index] for index in lane.list_refused()]

    def send_refused_again(self) -> None:
        self.put_off += len(self.refused)
        for _ in range(20):
            if not self.refused:
                return
            part = self.refused
            lane = self.build_lane(part)
            run_lanes([lane], seconds=60)
            self.refused = [part[index] for index in lane.list_refused()]
        raise RuntimeError(f"{self.result.name} refuses {len(self.refused)} deliveries for good")

    def conclude(self) -> Result:
        """Fill the exactness column, once all is counted."""
        self.bench.measure_lag(self.running)
        counts = read_counts(self.db, acknowledged=self.acknowledged)
        self.result.exactness, self.result.is_exact = counts.describe(), counts.is_exact
        if self.put_off:
            self.result.exactness += f" ({self.put_off} put off, sent again)"
        say(f"    {self.result.name}: {self.result.exactness}")
        return self.result


class Floor:
    """One writer that only inserts run documents, as fast as this mongod takes them.

    No HTTP, no signature, no deduplication, no totals: what nobody who stores the runs can be
    under. The runs have the size of ours; majority and journal, batch after batch.
    """

    plan = Plan(FLOOR_BATCH, 1)

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._automations = set_up_automations()
        self.db = bench.create_database(self._automations)
        self.result = Result(FLOOR)
        self._number = 0
        self._inserted = 0
        self.load(seconds=0.5, is_counted=False)

    def load(self, _: Any = None, *, seconds: float, is_counted: bool) -> None:
        """Insert for so long, what was built before the clock starts."""
        rate = max(self.result.values, default=40_000.0)
        cpu = read_cpu_seconds([self.bench.mongod])
        batches = int(rate * seconds * _RESERVE / FLOOR_BATCH) + 1
        ready = [self._build_batch() for _ in range(batches)]
        started = time.perf_counter()
        runs = 0
        for batch in ready:
            self.db["automation_runs"].insert_many(batch)
            runs += len(batch)
            if time.perf_counter() - started >= seconds:
                break
        took = time.perf_counter() - started
        self._inserted += runs
        if is_counted:
            self.result.values.append(runs / took)
            cpu = read_cpu_seconds([self.bench.mongod]) - cpu
            self.result.mongod_cpu.append(cpu / runs * 1e6)
            say(f"    {self.result.name}: {runs / took:,.0f} runs/s")

    def _build_batch(self) -> list[dict[str, Any]]:
        now = datetime.now(UTC).replace(microsecond=0)
        batch = []
        for number in range(self._number + 1, self._number + 1 + FLOOR_BATCH):
            # In entries of 100 events of one account, as the deliveries have them.
            account = number // 100 * PER_ACCOUNT + number % PER_ACCOUNT
            automation = self._automations[account % len(self._automations)]
            batch.append({
                "_id": ObjectId(),
                "automationId": automation["_id"],
                "workspaceId": automation["workspaceId"],
                "triggerType": "opening_dm",
                "userId": f"1784{number:013d}",
                "metadata": {
                    "messageText": pick_text(number, word="guide7"),
                    "postId": f"1790{number % 97:013d}",
                },
                "createdAt": now,
                "eventId": f"1785{number:013d}",
                "occurredAt": now,
            })  # fmt: skip
        self._number += FLOOR_BATCH
        return batch

    def conclude(self) -> Result:
        counts = read_counts(self.db, acknowledged=self._inserted, has_totals=False)
        self.result.exactness, self.result.is_exact = counts.describe(), counts.is_exact
        return self.result


Step = Callable[[Contestant], None]


def run_load(
    bench: Bench,
    entries: Sequence[tuple[Candidate, Plan]],
    *,
    has_floor: bool = False,
    weighs: bool = False,
    once_for: float = 0.0,
    begin: Step | None = None,
    repair: Step | None = None,
) -> list[Result]:
    """Run the rounds of one row and return every candidate's figures, in the order given.

    All entries have the same number of events in a delivery. The deliveries of a round are the
    same for all candidates with the same kind of load. `once_for` is one round of so many seconds;
    `begin` comes before the first round, `repair` after the last.
    """
    rounds, usual = bench.options.rounds, bench.options.seconds
    if once_for:
        rounds, usual = 1, min(once_for, usual * _MOST_ROUNDS)
    contestants = [Contestant(bench, candidate, plan) for candidate, plan in entries]
    everybody: list[Any] = [*contestants]
    if has_floor and bench.options.is_wanted(FLOOR):
        everybody.append(Floor(bench))
    loads = {
        plan.is_one: Workload(set_up_automations(), events=plan.events, is_one=plan.is_one)
        for _, plan in entries
    }
    is_doubled = any(plan.is_doubled for _, plan in entries)

    def prepare(number: int) -> Callable[[Any], None]:
        seconds = usual if number else _WARM_UP_SECONDS
        built: dict[bool, list[Delivery]] = {}
        for is_one, load in loads.items():
            speeds = [one.fastest for one in contestants if one.plan.is_one == is_one]
            wanted = max(speeds, default=0.0)
            count = int(wanted * seconds * _RESERVE) if wanted else int(3000 / load.events**0.6)
            count = max(count, _LEAST_DELIVERIES)
            built[is_one] = load.build_doubled(count) if is_doubled else load.build(count)
        return lambda one: one.load(
            built.get(one.plan.is_one), seconds=seconds, is_counted=number > 0
        )

    for one in contestants if begin else ():
        begin(one)
    bench.run_rounds(contestants, prepare, [0])
    bench.run_rounds(everybody, prepare, range(1, rounds + 1))
    for one in contestants if repair else ():
        repair(one)
    results = [one.conclude() for one in everybody]
    if weighs:
        bench.settle()
        for one in everybody:
            _weigh(one)
    bench.end()
    return results


def _weigh(one: Contestant | Floor) -> None:
    sizes = read_bytes_on_disk(one.db)
    runs = max(one.db["automation_runs"].count_documents({}), 1)
    one.result.notes["bytes/run on disk"] = f"{sum(sizes.values()) / runs:,.0f}"
    one.result.notes["of these runs + indexes"] = f"{sizes['automation_runs'] / runs:,.0f}"

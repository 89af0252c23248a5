"""The list of a workspace with 50 automations, however many runs there are."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.benchmarks.bench import Bench, order_round, say
from tests.benchmarks.candidates import Running, port, run_command, serve
from tests.benchmarks.client import Lane, run_lanes
from tests.benchmarks.counts import read_counts
from tests.benchmarks.figures import Result, Table
from tests.benchmarks.profiling import profile
from tests.benchmarks.seeding import seed
from tests.benchmarks.workload import Workload, build_automations

AUTOMATIONS = 50
_WORKSPACE = "workspace-0"
_INGEST_EVENTS, _INGEST_PER_SECOND, _INGEST_CONNECTIONS = 100, 5, 4
_WINDOWS = {"last24Hours": timedelta(hours=24), "last7Days": timedelta(days=7)}
_LONGEST_ROUND = 3.0
_WARM_UP_SECONDS = 1.5


class _Reader:
    def __init__(self, running: Running, *, token: str, size: int) -> None:
        self.running = running
        self.name = f"{running.candidate.name}, {size:,} runs"
        self.idle = Result(self.name)
        self.busy = Result(self.name)
        head = f"GET /api/workspaces/{_WORKSPACE}/automations HTTP/1.1\r\nHost: localhost\r\n"
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self.request = f"{head}Accept: application/json\r\n{authorization}\r\n".encode()

    def build_lane(self) -> Lane:
        return Lane(self.running.port, [self.request], connections=1, is_endless=True)

    def read_once(self) -> list[dict[str, Any]]:
        lane = Lane(self.running.port, [self.request], connections=1, keeps_bodies=True)
        run_lanes([lane], seconds=60)
        [answer] = lane.answers
        if answer.status != 200:
            raise RuntimeError(f"{self.name}: the list answered {answer.status}")
        automations: list[dict[str, Any]] = json.loads(answer.body)["automations"]
        return automations


def run(bench: Bench) -> list[Table]:
    """Return two tables: the list while nothing else happens, and during ingest."""
    readers: list[_Reader] = []
    for size in bench.options.list_sizes:
        readers += _run_size(bench, size)
    common = f"Runs spread over 60 days; {AUTOMATIONS} automations; one reader."
    ingest = _INGEST_EVENTS * _INGEST_PER_SECOND
    columns = ("p99", "longest")
    return [
        Table(
            key="list", title="List of 50 automations, idle", note=common, unit="p50 ms of a round",
            results=[reader.idle for reader in readers], decimals=2, columns=columns,
        ),
        Table(
            key="list-ingest", title="List of 50 automations, during ingest",
            note=f"{common} Meanwhile {ingest} events/s on the same automations.",
            unit="p50 ms of a round", results=[reader.busy for reader in readers], decimals=2,
            columns=columns,
        ),
    ]  # fmt: skip


def _run_size(bench: Bench, size: int) -> list[_Reader]:
    set_up = build_automations(AUTOMATIONS, workspaces=1)
    candidates = bench.choose(
        [serve(2), *bench.before.list_servers(2), *bench.peer.find_mode("naive"), port(2)]
    )
    roots = [one.root for one in candidates if one.is_ours]
    ours, peers, took = seed(bench, set_up, size, roots=roots)
    tokens = {
        root: run_command(
            "create_api_token", "--workspace", _WORKSPACE,
            uri=bench.server.build_uri(name), root=root,
        ).split()[-1]
        for root, name in ours.items()
    }  # fmt: skip
    readers = [
        _Reader(bench.start_on(one, ours[one.root]), token=tokens[one.root], size=size)
        if one.is_ours
        else _Reader(bench.start_on(one, peers), token="", size=size)
        for one in candidates
    ]
    stored = dict.fromkeys([*ours.values(), peers], size)  # runs there have to be
    load = Workload(set_up, events=_INGEST_EVENTS)
    try:
        for reader in readers:
            run_lanes([reader.build_lane()], seconds=_WARM_UP_SECONDS)
            reader.idle.exactness, reader.idle.is_exact = _check(bench, reader, stored)
        for measure in (_read_idle, _read_during_ingest):
            for number in range(1, bench.options.rounds + 1):
                say(f"  {size:,} runs, round {number} of {bench.options.rounds}")
                for reader in order_round(readers, number):
                    bench.settle([one.running for one in readers])
                    measure(bench, reader, load, stored)
        for reader in readers:
            reader.busy.exactness, reader.busy.is_exact = _check(bench, reader, stored)
            say(f"    {reader.name}: {reader.busy.exactness}")
        _compare(readers, add_run_fields=took)
    finally:
        bench.end([reader.running for reader in readers])
    return readers


def _read_idle(bench: Bench, reader: _Reader, load: Workload, stored: dict[str, int]) -> None:
    del load, stored
    lane = reader.build_lane()
    seconds = min(bench.options.seconds, _LONGEST_ROUND)
    with profile(bench, reader.running, seconds=seconds):
        run_lanes([lane], seconds=seconds)
    _note(reader.name, reader.idle, lane)


def _read_during_ingest(
    bench: Bench, reader: _Reader, load: Workload, stored: dict[str, int]
) -> None:
    seconds = min(bench.options.seconds, _LONGEST_ROUND)
    due = [number / _INGEST_PER_SECOND for number in range(int(seconds * _INGEST_PER_SECOND))]
    deliveries = load.build(len(due))
    writer = Lane(
        reader.running.port,
        [delivery.request for delivery in deliveries],
        connections=_INGEST_CONNECTIONS,
        due=due,
    )
    lane = reader.build_lane()
    run_lanes([writer, lane], seconds=seconds)
    _note(reader.name, reader.busy, lane)
    if writer.list_refused():
        raise RuntimeError(f"{reader.name} refused deliveries during the list row")
    taken = len(writer.answers) * _INGEST_EVENTS
    stored[reader.running.database] += taken
    reader.busy.notes["taken in, events/s"] = f"{taken / writer.seconds:,.0f}"


def _note(name: str, result: Result, lane: Lane) -> None:
    if lane.list_refused():
        raise RuntimeError(f"{name}: a list was not answered 200")
    waits = sorted(answer.seconds for answer in lane.answers)
    result.values.append(waits[len(waits) // 2] * 1000)
    result.waits += waits
    say(f"    {name}: p50 {result.values[-1]:.2f} ms of {len(waits)} reads")


def _compare(readers: Sequence[_Reader], *, add_run_fields: str) -> None:
    """Note how many times faster than the peer's counting the other candidates are."""
    naive = next((one for one in readers if one.name.startswith("Node")), None)
    for reader in readers:
        if naive is not None and reader is not naive:
            reader.idle.notes["naive / it"] = f"{naive.idle.median / reader.idle.median:.1f}"
            reader.busy.notes["naive / it"] = f"{naive.busy.median / reader.busy.median:.1f}"
    readers[0].idle.notes["add_run_fields"] = add_run_fields


def _check(bench: Bench, reader: _Reader, stored: dict[str, int]) -> tuple[str, bool]:
    """Compare one answer with counts of the runs; windows with counts just before and after."""
    bench.measure_lag(reader.running)
    name = reader.running.database
    database = bench.server.get_database(name)
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    shown = {one["_id"]: one["stats"] for one in reader.read_once()}
    after = datetime.now(UTC) + timedelta(milliseconds=1)
    counts = read_counts(database, acknowledged=stored[name])
    total = sum(stats["totalRuns"] for stats in shown.values())
    wrong = [] if total == stored[name] else [f"list shows {total - stored[name]:+,} runs"]
    for window, length in _WINDOWS.items():
        most, least = (
            {
                row["_id"]: row["runs"]
                for row in database["automation_runs"].aggregate([
                    {"$match": {"automationId": {"$in": list(shown)},
                                "createdAt": {"$gte": at - length}}},
                    {"$group": {"_id": "$automationId", "runs": {"$sum": 1}}},
                ])
            }
            for at in (before, after)
        )  # fmt: skip
        off = sum(
            not least.get(key, 0) <= stats[window] <= most.get(key, 0)
            for key, stats in shown.items()
        )
        if off:
            wrong.append(f"{window} of {off} automations")
    if wrong:
        return f"{counts.describe()}; **wrong**: {', '.join(wrong)}", False
    return f"{counts.describe()}, windows too", counts.is_exact

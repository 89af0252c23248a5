"""The list and the dashboard of 50 automations, however many runs there are."""

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2

from tests.benchmarks.bench import Bench, say
from tests.benchmarks.candidates import ROOT, Running, run_command, serve
from tests.benchmarks.client import Lane, run_lanes
from tests.benchmarks.figures import Result, Table, read_counts
from tests.benchmarks.seeding import seed
from tests.benchmarks.workload import Workload, build_automations
from tests.support.web_server import request

AUTOMATIONS = 50
_WORKSPACE = "workspace-0"
_LIST = f"/api/workspaces/{_WORKSPACE}/automations"
_HOME = f"/workspaces/{_WORKSPACE}/"
_INGEST_EVENTS, _INGEST_PER_SECOND, _INGEST_CONNECTIONS = 100, 5, 4
_WINDOWS = {"last24Hours": timedelta(hours=24), "last7Days": timedelta(days=7)}
_LONGEST_LIST_ROUND, _LONGEST_PAGE_ROUND = 3.0, 5.0
_SHARED = {"unit": "p50 ms of a round", "decimals": 2, "columns": ("p99", "longest")}
_LIST_WARM_UP_SECONDS, _PAGE_WARM_UP_SECONDS = 1.5, 2.0


class _Reader:
    """A candidate whose list is read; `stored` has the runs that a database has to have."""

    def __init__(
        self, bench: Bench, running: Running, *, token: str, size: int, stored: dict[str, int]
    ) -> None:
        self.bench = bench
        self.running = running
        self.stored = stored
        self.name = f"{running.candidate.name}, {size:,} runs"
        self.idle = Result(self.name)
        self.busy = Result(self.name)
        self.headers = {"Host": "localhost", "Accept": "application/json"}
        if token:
            self.headers["Authorization"] = f"Bearer {token}"

    def build_lane(self) -> Lane:
        head = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        asked = f"GET {_LIST} HTTP/1.1\r\n{head}\r\n".encode()
        return Lane(self.running.port, [asked], connections=1, is_endless=True)

    def read_once(self) -> list[dict[str, Any]]:
        status, body = request(self.running.port, _LIST, headers=self.headers, timeout=60)
        if status != 200:
            raise RuntimeError(f"{self.name}: the list answered {status}")
        automations: list[dict[str, Any]] = json.loads(body)["automations"]
        return automations

    def note(self, result: Result, lane: Lane) -> None:
        if lane.list_refused():
            raise RuntimeError(f"{self.name}: a list was not answered 200")
        say(result.note_waits([answer.seconds for answer in lane.answers], 0.5))

    def check(self, result: Result) -> None:
        """Compare one answer with counts of the runs, windows with those before and after."""
        self.bench.measure_lag(self.running)
        runs = self.running.db["automation_runs"]
        stored = self.stored[self.running.db.name]
        before = datetime.now(UTC) - timedelta(milliseconds=1)
        shown = {one["_id"]: one["stats"] for one in self.read_once()}
        after = datetime.now(UTC) + timedelta(milliseconds=1)
        counts = read_counts(self.running.db, acknowledged=stored)
        total = sum(stats["totalRuns"] for stats in shown.values())
        wrong = [] if total == stored else [f"list shows {total - stored:+,} runs"]
        for window, length in _WINDOWS.items():
            most, least = (
                {
                    row["_id"]: row["runs"]
                    for row in runs.aggregate([
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
        result.is_exact = counts.is_exact and not wrong
        ends = f"; **wrong**: {', '.join(wrong)}" if wrong else ", windows too"
        result.exactness = counts.describe() + ends
        say(f"    {self.name}: {result.exactness}")


def run(bench: Bench) -> list[Table]:
    """Return two tables: the list while nothing else happens, and during ingest."""
    readers: list[_Reader] = []
    for size in bench.options.list_sizes:
        readers += _run_size(bench, size)
    common = f"Runs spread over 60 days; {AUTOMATIONS} automations; one reader."
    ingest = f"{common} Meanwhile {_INGEST_EVENTS * _INGEST_PER_SECOND} events/s on the same "
    ingest += "automations."
    idle, busy = [one.idle for one in readers], [one.busy for one in readers]
    return [
        Table("list", "List of 50 automations, idle", common, results=idle, **_SHARED),
        Table("list-ingest", "List of 50 automations, during ingest", ingest, results=busy,
              **_SHARED),
    ]  # fmt: skip


def _run_size(bench: Bench, size: int) -> list[_Reader]:
    set_up = build_automations(AUTOMATIONS, workspaces=1)
    candidates = bench.line_up(modes=["naive"], has_port=True)
    roots = [one.root for one in candidates if one.is_ours]
    ours, peers, took = seed(bench, set_up, size, roots=roots)
    tokens = {root: _create_token(bench, database, root) for root, database in ours.items()}
    stored = dict.fromkeys([one.name for one in (*ours.values(), peers)], size)
    readers = []
    for one in candidates:
        database, token = (ours[one.root], tokens[one.root]) if one.is_ours else (peers, "")
        running = bench.start(one, database)
        readers.append(_Reader(bench, running, token=token, size=size, stored=stored))
    load = Workload(set_up, events=_INGEST_EVENTS)
    seconds = min(bench.options.seconds, _LONGEST_LIST_ROUND)

    def read_idle(reader: _Reader) -> None:
        lane = reader.build_lane()
        run_lanes([lane], seconds=seconds)
        reader.note(reader.idle, lane)

    def read_during_ingest(reader: _Reader) -> None:
        due = [number / _INGEST_PER_SECOND for number in range(int(seconds * _INGEST_PER_SECOND))]
        requests = [delivery.request for delivery in load.build(len(due))]
        writer = Lane(reader.running.port, requests, connections=_INGEST_CONNECTIONS, due=due)
        lane = reader.build_lane()
        run_lanes([writer, lane], seconds=seconds)
        reader.note(reader.busy, lane)
        if writer.list_refused():
            raise RuntimeError(f"{reader.name} refused deliveries during the list row")
        taken = len(writer.answers) * _INGEST_EVENTS
        stored[reader.running.db.name] += taken
        reader.busy.notes["taken in, events/s"] = f"{taken / writer.seconds:,.0f}"

    for reader in readers:
        run_lanes([reader.build_lane()], seconds=_LIST_WARM_UP_SECONDS)
        reader.check(reader.idle)
    measures: tuple[Callable[[_Reader], None], ...] = (read_idle, read_during_ingest)
    for measure in measures:
        bench.run_rounds(
            readers, lambda _, measure=measure: measure, range(1, bench.options.rounds + 1)
        )
    for reader in readers:
        reader.check(reader.busy)
    _compare(readers)
    readers[0].idle.notes["add_run_fields"] = took
    bench.end()
    return readers


def _compare(readers: Sequence[_Reader]) -> None:
    naive = next((one for one in readers if one.name.startswith("Node")), None)
    for reader in readers:
        if naive is not None and reader is not naive:
            reader.idle.notes["naive / it"] = f"{naive.idle.median / reader.idle.median:.1f}"
            reader.busy.notes["naive / it"] = f"{naive.busy.median / reader.busy.median:.1f}"


def _create_token(bench: Bench, database: Any, root: Any) -> str:
    uri = bench.build_uri(database.name)
    words = ("create_api_token", "--workspace", _WORKSPACE)
    return run_command(*words, uri=uri, root=root).split()[-1]


def run_dashboard(bench: Bench) -> list[Table]:
    """The first page: made again, and polled while nothing changes; of the largest size."""
    size = max(bench.options.list_sizes)
    ours, peers, _ = seed(bench, build_automations(AUTOMATIONS, workspaces=1), size)
    bench.client.drop_database(peers.name)
    token = _create_token(bench, ours[ROOT], ROOT)
    running = bench.start(serve(2), ours[ROOT])
    client = httpx2.Client(base_url=f"http://localhost:{running.port}", timeout=60)
    csrf = _find(r'name="csrfmiddlewaretoken" value="([^"]+)"', client.get("/login").text)
    client.post("/login", data={"token": token, "csrfmiddlewaretoken": csrf})

    def find_on_page(pattern: str) -> str:
        answer = client.get(_HOME)
        if answer.status_code != 200:
            raise RuntimeError(f"the dashboard answered {answer.status_code}")
        return _find(pattern, answer.text)

    def ask(path: str, *, status: int, seconds: float) -> list[float]:
        """Return the waits for this status of one reader that asks without a pause."""
        session = client.cookies["sessionid"]
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: sessionid={session}\r\n"
        asked = f"{head}HX-Request: true\r\n\r\n".encode()
        lane = Lane(running.port, [asked], connections=1, is_endless=True)
        run_lanes([lane], seconds=seconds)
        # Every 30 seconds a page is made again, whatever was or was not counted meanwhile.
        found = [answer.seconds for answer in lane.answers if answer.status == status]
        if not found:
            raise RuntimeError(f"{path}: never answered {status}")
        return found

    page, poll = (Result(f"ours, {name}, {size:,} runs") for name in ("page", "unchanged poll"))
    for result in (page, poll):
        shown = int(find_on_page(r'id="total-runs">([\d,]+)<').replace(",", ""))
        result.exactness, result.is_exact = f"shows {shown:,} of {size:,} runs", shown == size
    ask(_HOME, status=200, seconds=_PAGE_WARM_UP_SECONDS)
    seconds = min(bench.options.seconds, _LONGEST_PAGE_ROUND)
    for _ in range(bench.options.rounds):
        bench.settle()
        say(page.note_waits(ask(_HOME, status=200, seconds=seconds), 0.5))
        version = find_on_page(r'live\?v=([\w-]+)"')
        say(poll.note_waits(ask(f"{_HOME}live?v={version}", status=204, seconds=seconds), 0.5))
    note = "One reader; the whole page, and htmx asking whether anything changed."
    return [
        Table(
            "dashboard", "Dashboard of 50 automations, idle", note, results=[page, poll], **_SHARED
        )
    ]


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"no {pattern!r} on the page")
    return found[1]

"""The dashboard's first page with 50 automations: made anew, and polled while nothing changes."""

import re

import httpx2

from tests.benchmarks.bench import Bench, say
from tests.benchmarks.candidates import ROOT, Running, run_command, serve
from tests.benchmarks.client import Answer, Lane, run_lanes
from tests.benchmarks.figures import Result, Table
from tests.benchmarks.rows.list_reads import AUTOMATIONS
from tests.benchmarks.seeding import seed
from tests.benchmarks.workload import build_automations

_WORKSPACE = "workspace-0"
_HOME = f"/workspaces/{_WORKSPACE}/"
_WARM_UP_SECONDS = 2.0
_LONGEST_ROUND = 5.0


class _Visitor:
    def __init__(self, running: Running, token: str) -> None:
        self.running = running
        self._client = httpx2.Client(base_url=f"http://localhost:{running.port}", timeout=60)
        form = self._client.get("/login").text
        csrf = _find(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)
        self._client.post("/login", data={"token": token, "csrfmiddlewaretoken": csrf})

    def read_page(self) -> str:
        answer = self._client.get(_HOME)
        if answer.status_code != 200:
            raise RuntimeError(f"the dashboard answered {answer.status_code}")
        return str(answer.text)

    def ask(self, path: str, *, status: int, seconds: float) -> list[Answer]:
        """Return the answers with this status of one reader that asks without a pause."""
        session = self._client.cookies["sessionid"]
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: sessionid={session}\r\n"
        request = f"{head}HX-Request: true\r\n\r\n".encode()
        lane = Lane(self.running.port, [request], connections=1, is_endless=True)
        run_lanes([lane], seconds=seconds)
        # Every 30 seconds a page is made anew, whatever was or was not counted meanwhile.
        found = [answer for answer in lane.answers if answer.status == status]
        if not found:
            raise RuntimeError(f"{path}: never answered {status}")
        return found


def run(bench: Bench) -> list[Table]:
    size = max(bench.options.list_sizes)
    seeded, peers, _ = seed(bench, build_automations(AUTOMATIONS, workspaces=1), size)
    ours = seeded[ROOT]
    bench.server.drop_database(peers)
    printed = run_command(
        "create_api_token", "--workspace", _WORKSPACE, uri=bench.server.build_uri(ours)
    )
    running = bench.start_on(serve(2), ours)
    page, poll = (Result(f"ours, {name}, {size:,} runs") for name in ("page", "unchanged poll"))
    try:
        visitor = _Visitor(running, printed.split()[-1])
        for result in (page, poll):
            result.exactness, result.is_exact = _check(visitor, size)
        visitor.ask(_HOME, status=200, seconds=_WARM_UP_SECONDS)
        seconds = min(bench.options.seconds, _LONGEST_ROUND)
        for _ in range(bench.options.rounds):
            bench.settle([running])
            _note(page, visitor.ask(_HOME, status=200, seconds=seconds))
            version = _find(r'live\?v=([\w-]+)"', visitor.read_page())
            _note(poll, visitor.ask(f"{_HOME}live?v={version}", status=204, seconds=seconds))
    finally:
        bench.end([running])
    return [
        Table(
            key="dashboard",
            title="Dashboard of 50 automations, idle",
            note="One reader; the whole page, and htmx asking whether anything changed.",
            unit="p50 ms of a round",
            results=[page, poll],
            decimals=2,
            columns=("p99", "longest"),
        )
    ]


def _note(result: Result, answers: list[Answer]) -> None:
    waits = sorted(answer.seconds for answer in answers)
    result.values.append(waits[len(waits) // 2] * 1000)
    result.waits += waits
    say(f"    {result.name}: p50 {result.values[-1]:.2f} ms of {len(waits)}")


def _check(visitor: _Visitor, size: int) -> tuple[str, bool]:
    """Compare the total that the page shows with the runs that are stored."""
    shown = int(_find(r'id="total-runs">([\d,]+)<', visitor.read_page()).replace(",", ""))
    return f"shows {shown:,} of {size:,} runs", shown == size


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"no {pattern!r} on the page")
    return found[1]

"""One workspace does its worst in every way, while another's deliveries go on."""

import itertools
import json
import socket
import statistics
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

from pymongo.database import Database

from tests.chaos.background import Background
from tests.chaos.cluster import WINDOW_MINUTES
from tests.chaos.load import Load, forget, open_database
from tests.chaos.readings import Readings, read_processes
from tests.chaos.replica_set import ReplicaSet
from tests.chaos.scenario import Scenario, print_figures, print_wrong, summarize_broken
from tests.chaos.soak import Serve
from tests.support.oracle import wait_until_counted
from tests.support.processes import list_descendants, read_command
from tests.support.triggers import make_run
from tests.support.web_server import request
from tests.support.webhook_cases import PATH, build_automation, build_body, build_comment, sign
from tracking.clock import read_now

RATE, CONNECTIONS = 50.0, 8
MOST_SECONDS, MOST_MEMORY = 1.0, 400.0
WORKSPACE, ACCOUNT, OLD = "greedy", "17841400000000666", "greedy-old"
_API = f"/api/workspaces/{WORKSPACE}"
_JSON = {"Content-Type": "application/json"}
_COMMENTS = 100

Document = dict[str, Any]


class Greedy(Background):
    """Everything that one workspace, and strangers, can ask for; answers are counted by chore."""

    def __init__(self, port: int, token: str) -> None:
        self.answers: Counter[str] = Counter()
        self._port = port
        self._headers = {"Authorization": f"Bearer {token}"}
        self._numbers = itertools.count()
        chores: tuple[tuple[Callable[[], Any], int], ...] = (
            (self.search, 40), (self.export, 10), (self.write, 4), (self.look, 10),
            (self.go_viral, 1), (self.stall, 30), (self.flood, 6),
        )  # fmt: skip
        super().__init__(*(partial(self._work, do) for do, times in chores for _ in range(times)))

    def search(self) -> int:
        return self._ask(f"{_API}/runs?postId=none")

    def look(self) -> int:
        return self._ask(self._choose("/api/schema", f"{_API}/automations", f"{_API}/series"))

    def write(self) -> int:
        texts = ["x" * 2000] * self._choose(2, 10)
        new = {"name": "n", "type": "comment_to_dm", "accountId": ACCOUNT,
               "trigger": {"match": "any"}, "commentReply": {"texts": texts}}  # fmt: skip
        body = json.dumps(new).encode()
        return self._ask(f"{_API}/automations", body=body, headers=self._headers | _JSON)

    def go_viral(self) -> int:
        self.stopping.wait(0.2)
        first = next(self._numbers) * _COMMENTS
        comments = (build_comment(first + number) for number in range(_COMMENTS))
        body = build_body(*comments, account_id=ACCOUNT)
        return self._ask(PATH, body=body, headers={"X-Hub-Signature-256": sign(body)})

    def flood(self) -> int:
        """Send large bodies without a signature to any path."""
        path = self._choose(PATH, f"{_API}/automations", "/login")
        return self._ask(path, body=b"x" * self._choose(3_000_000, 6_000_000), headers=_JSON)

    def stall(self) -> int:
        """Begin a body, and send no more of it."""
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{{"
        return self._hold(head, seconds=20.0)

    def export(self) -> int:
        """Ask for a file and do not read it."""
        token = self._headers["Authorization"]
        head = f"GET {_API}/runs.csv HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n\r\n"
        return self._hold(head, seconds=20.0)

    def _hold(self, head: str, *, seconds: float) -> int:
        with socket.create_connection(("127.0.0.1", self._port), timeout=seconds) as connection:
            connection.sendall(head.encode())
            self.stopping.wait(seconds)
            return int(connection.recv(12).split()[1])

    def _choose(self, *choices: Any) -> Any:
        return choices[next(self._numbers) % len(choices)]

    def _ask(self, path: str, *, body: bytes = b"", headers: dict[str, str] | None = None) -> int:
        status, _ = request(
            self._port, path, method="POST" if body else "GET", body=body, timeout=30,
            headers=self._headers if headers is None else headers,
        )  # fmt: skip
        return status

    def _work(self, do: Callable[[], int]) -> None:
        while not self.stopping.is_set():
            status = 0
            with suppress(OSError, HTTPException, ValueError, IndexError):
                status = do()
            self.answers[f"{do.__name__} {status}"] += 1


def run(directory: Path, options: Namespace) -> bool:
    with ReplicaSet(directory, size=1) as replica_set, open_database(replica_set.uri) as database:
        insert_greedy(database, runs=options.runs)
        with Serve(directory, replica_set.uri) as serve:
            token = serve.create_token(WORKSPACE)
            load = Load(
                [serve.url], database, seed=options.seed,
                connections=CONNECTIONS, rate=RATE,
            )  # fmt: skip
            greedy = Greedy(serve.port, token)
            readings = Readings(lambda: read_memory(serve.pid), every_seconds=0.5)
            with load:
                load.wait_for(1)
                with readings, greedy:
                    time.sleep(options.seconds)
            load.resend()
            wait_until_counted(database)
            theirs = database["automations"].distinct("_id", {"workspaceId": WORKSPACE})
            forget(database, [OLD, *map(str, theirs)])
            broken = load.recount(window=timedelta(minutes=WINDOW_MINUTES))
    took = statistics.quantiles(load.took, n=100)
    rows = [row for _, row in readings.rows]
    largest = {name: max(row.get(name, 0.0) for row in rows) for name in rows[-1]}
    refused = load.answers.total() - load.answers["200"]
    pairs = (
        (f"p99 of answers {took[98]:.2f} s", took[98] <= options.most_seconds),
        (f"{refused} refused", refused <= options.most_refused),
        *((f"{name} {most:.0f} MiB", most <= MOST_MEMORY) for name, most in largest.items()),
    )
    wrong = [*broken, *(said for said, is_fine in pairs if not is_fine)]
    print_wrong(wrong)
    print_figures({
        **load.build_figures(),
        "refused": refused,
        "p50": f"{took[49]:.3f} s",
        "p99": f"{took[98]:.3f} s",
        "greedy": ", ".join(f"{name}: {n}" for name, n in sorted(greedy.answers.items())),
        "memory": f"{max(largest.values()):.0f} MiB, the largest process",
        **summarize_broken(broken),
    })  # fmt: skip
    return not wrong


def insert_greedy(database: Database[Document], *, runs: int) -> None:
    database["automations"].insert_one(
        build_automation(WORKSPACE, workspaceId=WORKSPACE, accountId=ACCOUNT)
    )
    now = read_now()
    for start in range(0, runs, 10_000):
        database["automation_runs"].insert_many(
            [
                make_run(OLD, now - timedelta(seconds=number), workspaceId=WORKSPACE)
                for number in range(start, min(start + 10_000, runs))
            ],
            ordered=False,
        )


def read_memory(serve: int) -> dict[str, float]:
    pids = {f"{read_command(pid).split()[-1]} {pid}": [pid] for pid in list_descendants(serve)}
    found = read_processes(pids)
    return {name: value for name, value in found.items() if name.endswith("memory")}


SCENARIO = Scenario(
    "One workspace does its worst while another's deliveries go on.",
    {
        "seconds": (120.0, ""),
        "runs": (600_000, "that the greedy one has"),
        "most-seconds": (MOST_SECONDS, "p99 of answers"),
        "most-refused": (0, "deliveries"),
    },
    run,
)

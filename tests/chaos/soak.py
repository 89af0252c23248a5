"""Minutes of even load on `serve`: what its processes hold stays what it is."""

import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database

from tests.chaos.cluster import SETTINGS
from tests.chaos.load import Load, open_database
from tests.chaos.readings import Readings, is_bounded, measure_trend, read_processes
from tests.chaos.replica_set import ReplicaSet
from tests.chaos.scenario import Scenario, print_figures, print_wrong
from tests.chaos.side_load import SideLoad
from tests.support.oracle import wait_until_counted
from tests.support.processes import (
    LoggedProcess,
    build_environment,
    list_descendants,
    read_command,
    running,
)
from tracking.embedded.mongod import choose_port

CONNECTIONS = 16
MEMORY_SLACK = {"web": 16.0, "worker": 16.0, "counter": 16.0, "serve": 8.0}
# Its cache of 256 MiB fills for as long as the data grows, so mongod is held to a size: that of the
# cache, and as much again twice for connections, snapshots and what its allocator keeps.
MOST_MONGOD_MEMORY = 768.0
# Of files, threads and sessions: connections of a pool come and go.
SLACK = 12.0
# Before that caches and pools fill.
MINUTES_TO_SETTLE = 5.0
_READINGS = 120
_ROLES = {
    "run_worker": "worker",
    "run_counter": "counter",
    "automations.operations.webserver": "web",
    "serve": "serve",
}

Document = dict[str, Any]


class Serve(LoggedProcess):
    stop_seconds = 40.0

    def __init__(self, directory: Path, uri: str) -> None:
        self.port = choose_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._settings = build_environment(MONGODB_URI=uri, **SETTINGS)
        command = [sys.executable, "manage.py", "serve", "--port", str(self.port)]
        super().__init__(command, log_path=directory / "serve.log", environment=self._settings)

    def is_ready(self) -> bool:
        return "Serving on" in self.read_log()

    def create_token(self, workspace_id: str) -> str:
        arguments = ("create_api_token", "--workspace", workspace_id)
        with running(*arguments, environment=self._settings) as command:
            assert command.wait(seconds=60) == 0, command.output
        return command.lines[-1]


def run(directory: Path, options: Namespace) -> bool:
    seconds = options.minutes * 60
    with ReplicaSet(directory, size=1) as replica_set, open_database(replica_set.uri) as database:
        with Serve(directory, replica_set.uri) as serve:
            load = Load(
                [serve.url], database, seed=options.seed, connections=CONNECTIONS,
                rate=options.rate,
            )  # fmt: skip
            token = serve.create_token("ws1")
            side = SideLoad(serve.port, token=token, load=load, seed=options.seed)
            readings = Readings(
                lambda: read_all(serve.pid, replica_set.members[0].pid, database.client),
                every_seconds=seconds / _READINGS,
            )
            with load:
                load.wait_for(1)
                with side, readings:
                    time.sleep(seconds)
            wait_until_counted(database)
        wrong = check_counts(database, load, side)
        if options.minutes >= MINUTES_TO_SETTLE:
            wrong += find_growth(readings)
        print_wrong(wrong)
        report(readings, load, side, seconds=seconds)
    return not wrong


def read_all(serve: int, mongod: int, client: MongoClient[Document]) -> dict[str, float]:
    roles: dict[str, list[int]] = {"mongod": [mongod]}
    for pid in (serve, *list_descendants(serve)):
        command = read_command(pid)
        role = next((role for word, role in _ROLES.items() if word in command), None)
        if role is not None:
            roles.setdefault(role, []).append(pid)
    status = client.admin.command("serverStatus")
    return {
        **read_processes(roles),
        "mongod connections": status["connections"]["current"],
        "mongod sessions": status["logicalSessionRecordCache"]["activeSessionsCount"],
        "mongod open transactions": status["transactions"]["currentOpen"],
        "mongod cursors": status["metrics"]["cursor"]["open"]["total"],
    }


def find_growth(readings: Readings) -> list[str]:
    wrong = []
    for name in sorted(readings.rows[-1][1]):
        role, _, what = name.partition(" ")
        trend = measure_trend(readings.rows, name)
        if name == "mongod memory":
            is_fine = trend.end <= MOST_MONGOD_MEMORY
        else:
            is_fine = is_bounded(trend, slack=MEMORY_SLACK[role] if what == "memory" else SLACK)
        if not is_fine:
            wrong.append(f"{name} grows: {trend.middle:.0f} in the middle, {trend.end:.0f} at last")
    return wrong


def check_counts(database: Database[Document], load: Load, side: SideLoad) -> list[str]:
    triggers = database["automation_triggers"]
    outcomes = {
        row["_id"]: row["n"]
        for row in triggers.aggregate([{"$group": {"_id": "$outcome", "n": {"$sum": 1}}}])
    }
    taps = outcomes.pop("continuation", 0)
    runs = database["automation_runs"].count_documents({})
    totals = sum(one["totalRuns"] for one in database["automations"].find())
    expected = sum(event.is_match for event in load.acknowledged.values())
    letters = database["webhook_dead_letters"].count_documents({})
    # "Later" is polite, as for the deliveries themselves.
    rude = {key: n for key, n in side.answers.items() if key[1] in (0, 500, 502, 504)}
    pairs = (
        ("triggers of acknowledged events", sum(outcomes.values()), expected),
        ("runs", runs, outcomes.get("counted", 0)),
        ("totals", totals, runs),
        ("taps", taps, side.answers["tap", 200]),
        ("dead letters", letters, side.answers["garbage", 200]),
        ("rude answers", len(rude) + len(load.rude_answers), 0),
        ("unsigned that got in", side.answers["unsigned", 200], 0),
    )
    return [f"{name}: {found}, not {wanted}" for name, found, wanted in pairs if found != wanted]


def report(readings: Readings, load: Load, side: SideLoad, *, seconds: float) -> None:
    table = [f"{'':<26}{'start':>9}{'middle':>9}{'end':>9}{'a minute':>10}\n"]
    for name in sorted(readings.rows[-1][1]):
        one = measure_trend(readings.rows, name)
        table.append(
            f"{name:<26}{one.start:>9.0f}{one.middle:>9.0f}{one.end:>9.0f}{one.slope:>+10.2f}\n"
        )
    sys.stdout.write("".join(table))
    answers = sorted(side.answers.items())
    print_figures({
        "minutes": f"{seconds / 60:.1f}",
        **load.build_figures(),
        "beside": ", ".join(f"{chore} {status}: {n}" for (chore, status), n in answers),
    })  # fmt: skip


SCENARIO = Scenario(
    "Even load on serve: what its processes hold stays bounded.",
    {"minutes": (20.0, ""), "rate": (300.0, "events a second")},
    run,
)

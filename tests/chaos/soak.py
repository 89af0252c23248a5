"""Minutes of even load on `serve`: what its processes hold stays what it is."""

import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database

from tests.chaos.load import Load, prepare_database
from tests.chaos.readings import (
    Readings,
    is_bounded,
    list_children,
    measure_trend,
    read_command,
    read_processes,
)
from tests.chaos.replica_set import ReplicaSet
from tests.chaos.scenario import Scenario, print_figures, print_wrong
from tests.chaos.side_load import SideLoad
from tests.support.oracle import wait_until_counted
from tests.support.web_server import ROOT, build_environment
from tracking.embedded.mongod import choose_port

SECRET_KEY = "soak-secret-key-of-no-worth-elsewhere"
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


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=300.0, help="events a second")


def run(directory: Path, options: Namespace) -> bool:
    seconds = options.minutes * 60
    with (
        ReplicaSet(directory, size=1) as replica_set,
        MongoClient[Document](replica_set.uri, tz_aware=True, appname="soak") as client,
    ):
        database = client.get_default_database()
        prepare_database(database)
        with serving(directory, replica_set.uri) as (process, url):
            token = create_token(replica_set.uri)
            load = Load([url], seed=options.seed, connections=CONNECTIONS, rate=options.rate)
            load.insert_automations(database)
            side = SideLoad(url, secret_key=SECRET_KEY, token=token, load=load, seed=options.seed)
            readings = Readings(
                lambda: read_all(process.pid, replica_set.members[0].pid, client),
                every_seconds=seconds / _READINGS,
            )
            load.start()
            load.wait_for(1)
            side.start()
            readings.start()
            try:
                time.sleep(seconds)
            finally:
                for one in (readings, side, load):
                    one.stop()
            wait_until_counted(database)
        wrong = check_counts(database, load, side)
        if options.minutes >= MINUTES_TO_SETTLE:
            wrong += find_growth(readings)
        print_wrong(wrong)
        report(readings, load, side, seconds=seconds)
    return not wrong


@contextmanager
def serving(directory: Path, uri: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run `serve` on the database; its process and its URL."""
    port = choose_port()
    with (directory / "serve.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "serve", "--port", str(port)],
            cwd=ROOT,
            env=build_environment(uri, **environment()),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    children: list[int] = []
    try:
        children = wait_for_children(process, directory / "serve.log")
        yield process, f"http://127.0.0.1:{port}"
    finally:
        children += list_children(process.pid)
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in children:
            if "manage.py" in read_command(
                pid
            ) or "automations.operations.webserver" in read_command(pid):
                os.kill(pid, signal.SIGKILL)


def environment() -> dict[str, str]:
    """The shortest window, so that people count again within the run."""
    return {"DJANGO_SECRET_KEY": SECRET_KEY, "TRACKING_DEDUP_WINDOW_MINUTES": "1"}


def wait_for_children(process: subprocess.Popen[bytes], log: Path) -> list[int]:
    """Return the processes of `serve` once it says that it serves."""
    deadline = time.monotonic() + 60
    while "Serving on" not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise TimeoutError(f"serve does not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)
    return list_children(process.pid)


def create_token(uri: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", "create_api_token", "--workspace", "ws"],
        cwd=ROOT, env=build_environment(uri, **environment()), capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    return done.stdout.split()[-1]


def read_all(serve: int, mongod: int, client: MongoClient[Document]) -> dict[str, float]:
    roles: dict[str, list[int]] = {"mongod": [mongod]}
    for pid in (serve, *list_children(serve)):
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
    """Return a line for each figure that grew without a bound in sight."""
    wrong = []
    for name in list_names(readings):
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
    """Return a line for each count that is not what was acknowledged."""
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
        ("taps", taps, side.count("tap", 200)),
        ("dead letters", letters, side.count("garbage", 200)),
        ("rude answers", len(rude) + len(load.rude_answers), 0),
        ("unsigned that got in", side.count("unsigned", 200), 0),
    )
    return [f"{name}: {found}, not {wanted}" for name, found, wanted in pairs if found != wanted]


def list_names(readings: Readings) -> list[str]:
    return sorted(readings.rows[-1][1])


def report(readings: Readings, load: Load, side: SideLoad, *, seconds: float) -> None:
    table = [f"{'':<26}{'start':>9}{'middle':>9}{'end':>9}{'a minute':>10}\n"]
    for name in list_names(readings):
        one = measure_trend(readings.rows, name)
        table.append(
            f"{name:<26}{one.start:>9.0f}{one.middle:>9.0f}{one.end:>9.0f}{one.slope:>+10.2f}\n"
        )
    sys.stdout.write("".join(table))
    answers = sorted(side.answers.items())
    print_figures({
        "minutes": f"{seconds / 60:.1f}",
        "acknowledged": f"{len(load.acknowledged)} events, each once",
        "answers": ", ".join(f"{status} {n}" for status, n in sorted(load.answers.items())),
        "beside": ", ".join(f"{chore} {status}: {n}" for (chore, status), n in answers),
        "slowest": f"{load.slowest:.2f} s to an answer",
    })  # fmt: skip


SCENARIO = Scenario(
    "Even load on serve: what its processes hold stays bounded.", add_arguments, run
)

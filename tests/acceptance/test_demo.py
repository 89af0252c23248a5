"""`demo` as a visitor starts it: paste the printed line, see the counts grow."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.collection import Collection

from automations.demo.simulation.plan import AUTOMATION_TYPES
from tests.support.processes import Command, running
from tests.support.waiting import wait_until
from tracking.embedded import server as embedded
from tracking.embedded.mongod import choose_port


def paste(line: str) -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        line, shell=True, capture_output=True, timeout=10, check=True, executable="/bin/sh"
    )
    answer = json.loads(done.stdout)
    assert answer["success"] is True
    return {automation["name"]: automation for automation in answer["automations"]}


def count_runs(line: str) -> int:
    return sum(one["stats"]["totalRuns"] for one in paste(line).values())


def find_curl_line(demo: Command) -> str:
    demo.wait_for_line("Stop with Ctrl-C")
    return demo.wait_for_line("^curl ")


def find_finished_run(runs: Collection[dict[str, Any]]) -> dict[str, Any] | None:
    """A run of which everything was sent: below the comment, asking twice, and what it is about."""
    names = ("comment_reply", "opening_dm", "ask_follow", "main_dm")
    return runs.find_one(dict.fromkeys((f"steps.{name}.state" for name in names), "sent"))


def check_a_conversation(data_dir: Path) -> None:
    """A follower comments, taps, follows, taps again, and has the main message: all one run."""
    uri = embedded.ensure_running(data_dir)  # as one more user of the demo's own
    try:
        with MongoClient[dict[str, Any]](uri, tz_aware=True) as client:
            database = client.get_default_database()
            wait_until(lambda: find_finished_run(database["automation_runs"]), seconds=60)
            run = find_finished_run(database["automation_runs"])
            assert run is not None
            assert run["completedAt"] > run["createdAt"]
            assert run["steps"].keys() == {"comment_reply", "opening_dm", "ask_follow", "main_dm"}
            person = {"automationId": run["automationId"], "userId": run["userId"]}
            assert database["automation_runs"].count_documents(person) == 1
            assert database["automation_contacts"].count_documents(person) == 1
            taps = {"outcome": "continuation", "runId": run["_id"]}
            assert database["automation_triggers"].count_documents(taps) >= 2
            triggers = database["automation_triggers"]
            wait_until(lambda: triggers.distinct("state", taps) == ["sent", "waiting"], seconds=10)
            [account] = database["accounts"].find()
            assert (account["state"], "IGAA" in account["token"]) == ("active", False)
    finally:
        embedded.stop(data_dir)


def test_the_printed_line_shows_counts_that_grow_also_after_a_restart(tmp_path: Path) -> None:
    # Nothing set: the secrets are made.
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    arguments = (
        *("demo", "--data-dir", str(tmp_path / "data"), "--port", str(choose_port())),
        *("--rate", "10", "--processes", "1"),
    )
    with running(*arguments, environment=environment) as demo:
        line = find_curl_line(demo)
        automations = paste(line)
        assert {one["type"] for one in automations.values()} == set(AUTOMATION_TYPES.values())
        for one in automations.values():
            assert one["stats"]["totalRuns"] == one["totalRuns"]
            assert 0 < one["stats"]["last24Hours"] < one["stats"]["last7Days"]
            assert one["lastRunAt"].endswith("Z")
        before = count_runs(line)
        assert before > 1000
        wait_until(lambda: count_runs(line) >= before + 10, seconds=30)
        demo.wait_for_line(r"✅ \[TRACKING\] Automation run tracked: \w{24} \(\w+\)")
        demo.wait_for_line(r"ℹ️ \[TRACKING\] Duplicate run skipped for user \d+", seconds=30)
        demo.wait_for_line(r"INSTAGRAM_GRAPH_URL=http://127\.0\.0\.1:\d+$")
        check_a_conversation(tmp_path / "data")
        verify = {**environment, "DATA_DIR": str(tmp_path / "data")}
        with running("verify_run_tracking", environment=verify) as verification:
            assert verification.wait(seconds=60) == 0, verification.output
        assert verification.lines[-1] == "verify_run_tracking: all is well"
        assert demo.stop() == 0
        assert "Traceback" not in demo.output

    with running(*arguments, environment=environment) as again:
        second_line = find_curl_line(again)
        assert second_line != line
        assert "Seeding" not in again.output
        at_restart = count_runs(second_line)
        assert before + 10 <= at_restart
        wait_until(lambda: count_runs(second_line) > at_restart, seconds=30)

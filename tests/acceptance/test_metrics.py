"""/metrics of `serve`: whichever process answers, it tells what all of them did."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.acceptance.test_serve import list_web_processes, serving
from tests.support.processes import Command, build_environment, running
from tests.support.waiting import wait_until
from tests.support.web_server import post_signed, request
from tests.support.webhook_cases import ACCOUNTS, build_body, build_comment
from tracking.embedded.mongod import choose_port


@pytest.fixture
def port() -> int:
    return choose_port()


@pytest.fixture
def server(port: int, tmp_path: Path) -> Iterator[Command]:
    with serving(port, tmp_path / "data", TMPDIR=str(tmp_path)) as command:
        yield command


def post_delivery(port: int, number: int) -> int:
    return post_signed(port, build_body(build_comment(number)))


def read_metric(port: int, name: str) -> float:
    status, text = request(port, "/metrics")
    assert status == 200
    values = [line for line in text.decode().splitlines() if line.startswith(f"{name} ")]
    return float(values[0].rpartition(" ")[2]) if values else 0.0


def test_the_sum_of_all_processes_outlives_one(server: Command, port: int, tmp_path: Path) -> None:
    answered = 'webhook_answers_total{status="200"}'
    ignored = 'webhook_ignored_events_total{reason="no_automation"}'
    assert read_metric(port, "mongodb_up") == 1.0
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda n: post_delivery(port, n), range(60))) == {200}
    # Connections are spread over both processes, and each of them says the same.
    assert {read_metric(port, answered) for _ in range(12)} == {60.0}
    directory = next(tmp_path.glob("metrics-*"))
    writers = {path.stem.rpartition("_")[2] for path in directory.glob("counter_*.db")}
    first, second = list_web_processes(server)
    assert {str(first), str(second)} <= writers

    os.kill(first, signal.SIGKILL)
    wait_until(lambda: first not in list_web_processes(server), seconds=10)
    wait_until(lambda: len(list_web_processes(server)) == 2, seconds=10)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda n: post_delivery(port, n), range(60, 100))) == {200}
    assert {read_metric(port, answered) for _ in range(12)} == {100.0}
    assert read_metric(port, ignored) == 100.0
    assert read_metric(port, "webhook_seconds_count") == 100.0

    assert server.stop() == 0
    assert not list(tmp_path.glob("metrics-*"))


def test_the_worker_is_in_the_sum(server: Command, port: int, tmp_path: Path) -> None:
    environment = build_environment(DATA_DIR=str(tmp_path / "data"))
    arguments = ("create_api_token", "--workspace", "w1", "--name", "test")
    with running(*arguments, environment=environment) as command:
        assert command.wait() == 0
    automation = {
        "name": "Link", "type": "comment_to_dm", "accountId": ACCOUNTS[0],
        "trigger": {"match": "any"}, "mainDm": {"text": "Here"},
    }  # fmt: skip
    headers = {"Authorization": f"Bearer {command.lines[-1]}", "Content-Type": "application/json"}
    body = json.dumps(automation).encode()
    path = "/api/workspaces/w1/automations"
    assert request(port, path, method="POST", body=body, headers=headers)[0] == 201
    assert post_delivery(port, 1) == 200
    counted = 'tracking_triggers_total{outcome="counted"}'
    wait_until(lambda: read_metric(port, counted) == 1.0, seconds=20)
    wait_until(lambda: read_metric(port, 'outbox_steps_total{state="shadow"}') == 1.0, seconds=20)

"""/metrics of `serve`: whichever process answers, it tells what all of them did."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from automations.demo.simulation.bodies import sign_body
from tests.acceptance.processes import (
    APP_SECRET,
    Command,
    build_environment,
    find_free_port,
    request,
    running,
)
from tests.acceptance.test_serve import list_web_processes
from tests.support.waiting import wait_until

ACCOUNT = "17841400000000001"


@pytest.fixture
def port() -> int:
    return find_free_port()


@pytest.fixture
def server(port: int, tmp_path: Path) -> Iterator[Command]:
    arguments = ("serve", "--port", str(port), "--data-dir", str(tmp_path / "data"))
    environment = build_environment(TMPDIR=str(tmp_path))
    with running(*arguments, environment=environment) as command:
        command.wait_for_line("Stop with Ctrl-C")
        yield command


def post_delivery(port: int, number: int) -> int:
    comment = {"id": f"18{number:09}", "text": "hi", "from": {"id": "901", "username": "mia"}}
    changes = [{"field": "comments", "value": comment}]
    entry = {"id": ACCOUNT, "time": 1795430400, "changes": changes}
    body = json.dumps({"object": "instagram", "entry": [entry]}).encode()
    signed = {"X_Hub_Signature_256": sign_body(body, APP_SECRET)}
    return request(port, "/api/webhooks/instagram", method="POST", body=body, **signed)[0]


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

    server.process.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    assert not list(tmp_path.glob("metrics-*"))


def test_the_worker_is_in_the_sum(server: Command, port: int, tmp_path: Path) -> None:
    environment = build_environment(DATA_DIR=str(tmp_path / "data"))
    arguments = ("create_api_token", "--workspace", "w1", "--name", "test")
    with running(*arguments, environment=environment) as command:
        assert command.wait() == 0
    automation = {
        "name": "Link", "type": "comment_to_dm", "accountId": ACCOUNT,
        "trigger": {"match": "any"}, "mainDm": {"text": "Here"},
    }  # fmt: skip
    headers = {"Authorization": f"Bearer {command.lines[-1]}", "Content-Type": "application/json"}
    body = json.dumps(automation).encode()
    path = "/api/workspaces/w1/automations"
    assert request(port, path, method="POST", body=body, **headers)[0] == 201
    assert post_delivery(port, 1) == 200
    counted = 'tracking_triggers_total{outcome="counted"}'
    wait_until(lambda: read_metric(port, counted) == 1.0, seconds=20)
    wait_until(lambda: read_metric(port, 'outbox_steps_total{state="shadow"}') == 1.0, seconds=20)

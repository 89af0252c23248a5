"""`serve` as a deployment starts it: what it answers, refuses and counts, and how it ends."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.processes import (
    Command,
    build_environment,
    list_alive,
    read_command,
    read_stat,
    running,
)
from tests.support.waiting import wait_until
from tests.support.web_server import is_answering, post_signed, request
from tests.support.webhook_cases import (
    ACCOUNTS,
    PATH,
    SECRET,
    build_body,
    build_comment,
    read_payload,
)
from tracking.embedded.mongod import choose_port

BODY = read_payload("comments__feed")


@contextmanager
def serving(port: int, data_dir: Path, *options: str, **names: str) -> Iterator[Command]:
    arguments = ("serve", "--port", str(port), "--data-dir", str(data_dir), *options)
    with running(*arguments, environment=build_environment(**names)) as command:
        command.wait_for_line("Stop with Ctrl-C", seconds=60)
        yield command


@pytest.fixture
def port() -> int:
    return choose_port()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def server(port: int, data_dir: Path) -> Iterator[Command]:
    with serving(port, data_dir, TMPDIR=str(data_dir.parent)) as command:
        yield command


def list_web_processes(server: Command) -> list[int]:
    """Return the processes that answer: those below the one that `serve` started."""
    below = sorted(server.list_descendants())
    return [pid for pid in below if "automations.operations.webserver" in read_command(pid)][1:]


def test_answers_on_an_empty_database_and_stops_in_order(server: Command, port: int) -> None:
    assert server.wait_for_line("Serving on").endswith(f"http://127.0.0.1:{port}")
    assert "run `python manage.py add_run_indexes`" in server.output
    assert SECRET not in server.output
    assert request(port, "/healthz") == (200, b"ok")
    question = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token="
    assert request(port, f"{PATH}?{question}test-verify-token") == (200, b"1158201444")
    assert request(port, f"{PATH}?{question}wrong")[0] == 403

    assert post_signed(port, BODY) == 200
    assert post_signed(port, BODY, "another secret") == 403
    assert request(port, "/api/workspaces/w1/automations")[0] == 401

    below = server.list_descendants()
    assert len(list_web_processes(server)) == 2
    assert server.stop(signal.SIGINT, seconds=8) == 0
    assert server.lines[-1] == "Stopped."
    assert not list_alive(below)


def test_nothing_remains_when_it_is_killed_and_the_next_start_finds_the_data(
    server: Command, port: int, data_dir: Path
) -> None:
    assert post_signed(port, b"no delivery") == 200
    below = server.list_descendants()
    assert len(below) >= 4  # mongod, the web server, its two processes
    server.process.kill()
    wait_until(lambda: not list_alive(below), seconds=3)

    with serving(port, data_dir, "--processes", "1"):
        environment = build_environment(DATA_DIR=str(data_dir))
        with running("replay_dead_letters", environment=environment) as replay:
            replay.wait()
        assert "1" in replay.output


def test_stopped_processes_are_replaced(server: Command, port: int) -> None:
    names = ("automations.operations.webserver", "run_worker", "run_counter")

    def find_last(name: str) -> int:
        return max(pid for pid in server.list_descendants() if name in read_command(pid))

    before = [find_last(name) for name in names]
    for pid in before:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: not list_alive(before), seconds=15)
    assert server.output.count("was stopped by a signal; it is replaced") == 3
    wait_until(lambda: all(find_last(name) not in before for name in names), seconds=5)
    wait_until(lambda: all(is_answering(port) for _ in range(8)), seconds=5)
    assert post_signed(port, BODY) == 200


def test_the_web_server_that_is_killed_is_started_again(server: Command, port: int) -> None:
    before = set(list_web_processes(server))
    [parent] = {int(read_stat(pid)[1]) for pid in before}
    os.kill(parent, signal.SIGKILL)
    wait_until(lambda: not list_alive(before), seconds=3)
    wait_until(lambda: len(list_web_processes(server)) == 2, seconds=8)
    wait_until(lambda: is_answering(port), seconds=8)


def test_a_taken_port_is_said_in_one_sentence(port: int, data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        arguments = ("serve", "--port", str(port), "--data-dir", str(data_dir))
        with running(*arguments, environment=build_environment()) as command:
            assert command.wait() == 1
    [sentence] = command.lines
    assert sentence == (
        f"CommandError: Cannot listen on 127.0.0.1:{port} (Address already in use); choose "
        "another with --port."
    )
    assert not data_dir.exists()


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
    wait_until(lambda: first not in list_web_processes(server), seconds=5)
    wait_until(lambda: len(list_web_processes(server)) == 2, seconds=5)
    assert second in list_web_processes(server)
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

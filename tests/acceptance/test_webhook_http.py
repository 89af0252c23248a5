"""The webhook as Meta meets it: over a socket, from a server process, on a MongoDB that stalls."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from automations.demo.simulation.connection import Connection
from tests.support.mongod_process import find_mongod
from tests.support.waiting import wait_until
from tests.support.web_server import WebServer
from tests.support.webhook_cases import (
    PATH,
    build_automation,
    build_body,
    build_comment,
    read_payload,
    sign,
)
from tracking.embedded import server as embedded
from tracking.mongo.indexes import ensure_collections

BODY = read_payload("comments__feed")
# What Meta waits. The deadline of ours is 3 s; `make chaos` measures what is kept of it.
MOST_SECONDS = 5.0


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("webhook-http")
    yield directory
    embedded.stop(directory)


@pytest.fixture(scope="module")
def database(data_dir: Path) -> Iterator[Database[dict[str, Any]]]:
    uri = embedded.ensure_running(data_dir, test_commands=True)
    with MongoClient[dict[str, Any]](uri, tz_aware=True) as client:
        ensure_collections(client.get_default_database())
        client.get_default_database()["automations"].insert_one(build_automation("a"))
        yield client.get_default_database()


@pytest.fixture(scope="module")
def server(data_dir: Path, database: Database[dict[str, Any]]) -> Iterator[WebServer]:
    uri = embedded.ensure_running(data_dir)
    with WebServer(data_dir, uri=uri, threads=32) as server:
        yield server


@pytest.fixture(autouse=True)
def _empty(database: Database[dict[str, Any]]) -> None:
    # The automation and its total stay: the server remembers both.
    for name in ("automation_runs", "automation_triggers", "automation_contacts"):
        database[name].delete_many({})


@contextmanager
def frozen_mongod(data_dir: Path) -> Iterator[None]:
    """Stop mongod in its tracks: its sockets are open, and nobody answers."""
    pid = find_mongod(data_dir)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def post(server: WebServer, body: bytes) -> int:
    connection = Connection(server.url + PATH, timeout=15)
    try:
        return connection.post(body, signature=sign(body)).status
    finally:
        connection.close()


def exchange(server: WebServer, request: bytes) -> bytes:
    """Send bytes as they are and return the whole answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connected:
        connected.sendall(request)
        answer = b""
        while chunk := connected.recv(65536):
            answer += chunk
            head, _, body = answer.partition(b"\r\n\r\n")
            if b"413" in head.splitlines()[0] or (b"\r\n\r\n" in answer and body):
                break
    return answer


def build_request(body: bytes, *headers: bytes, method: bytes = b"POST") -> bytes:
    head = [
        method + b" " + PATH.encode() + b" HTTP/1.1",
        b"Host: 127.0.0.1",
        b"Connection: close",
        *headers,
    ]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def wait_for_runs(database: Database[dict[str, Any]], number: int) -> None:
    """Wait until a counter has counted so many, and no more wait."""
    triggers, runs = database["automation_triggers"], database["automation_runs"]
    wait_until(lambda: not triggers.find_one({"partition": {"$exists": True}}), seconds=10)
    assert runs.count_documents({}) == number


def test_what_is_answered_200_is_there_for_everybody(
    server: WebServer, database: Database[dict[str, Any]]
) -> None:
    before = database["automations"].find_one({"_id": "a"}) or {}
    assert post(server, BODY) == 200
    wait_for_runs(database, 1)
    after = database["automations"].find_one({"_id": "a"}) or {}
    assert after["totalRuns"] == before["totalRuns"] + 1


@pytest.mark.parametrize(
    "header",
    [b"sha256=\xe9\xff\x80" + b"0" * 61, b"\xc3\xa9" * 64, b"\x00", b"sha256=" + b"0" * 9000],
)
def test_bytes_that_are_no_signature_are_refused(server: WebServer, header: bytes) -> None:
    length = b"Content-Length: %d" % len(BODY)
    request = build_request(BODY, length, b"X-Hub-Signature-256: " + header)
    status = exchange(server, request).split(b" ", 2)[1]
    assert status in (b"403", b"400", b"431")
    assert post(server, BODY) == 200


def test_declared_length_over_the_limit_is_refused(server: WebServer) -> None:
    request = build_request(b"", b"Content-Length: 4194305")
    # Nothing of the body was sent: the answer does not wait for it.
    assert exchange(server, request).split(b" ", 2)[1] == b"413"


@pytest.mark.parametrize(
    ("length", "status"), [(len(BODY), b"200"), (4194304, b"200"), (4194305, b"413")]
)
def test_a_body_without_a_length_is_read_to_the_limit(
    server: WebServer, database: Database[dict[str, Any]], length: int, status: bytes
) -> None:
    body = BODY.ljust(length)
    chunks = [body[at : at + 1_000_000] for at in range(0, length, 1_000_000)]
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    signature = b"X-Hub-Signature-256: " + sign(body).encode()
    request = build_request(chunked + b"0\r\n\r\n", b"Transfer-Encoding: chunked", signature)
    assert exchange(server, request).split(b" ", 2)[1] == status
    wait_for_runs(database, int(status == b"200"))


def test_get_answers_the_challenge_as_text(server: WebServer) -> None:
    query = b"?hub.mode=subscribe&hub.verify_token=test-verify-token&hub.challenge=1%3Cb%3E"
    request = build_request(b"", method=b"GET").replace(PATH.encode(), PATH.encode() + query)
    answer = exchange(server, request)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"\r\n\r\n1<b>")
    assert b"content-type: text/plain; charset=utf-8" in answer.lower()


def test_requests_on_a_stalled_database_are_put_off_in_time_and_counted_later(
    server: WebServer, data_dir: Path, database: Database[dict[str, Any]]
) -> None:
    assert post(server, build_body(build_comment(0))) == 200
    bodies = [build_body(build_comment(number)) for number in range(1, 13)]

    def post_late(number: int) -> tuple[int, float]:
        time.sleep(number * 0.3)
        started = time.monotonic()
        return post(server, bodies[number]), time.monotonic() - started

    with ThreadPoolExecutor(len(bodies)) as pool:
        with frozen_mongod(data_dir):
            answers = list(pool.map(post_late, range(len(bodies))))
        assert [status for status, _ in answers] == [503] * len(bodies)
        slowest = max(seconds for _, seconds in answers)
        assert slowest < MOST_SECONDS
        started = time.monotonic()
        assert list(pool.map(lambda body: post(server, body), bodies)) == [200] * len(bodies)
        assert time.monotonic() - started < MOST_SECONDS
    wait_for_runs(database, 1 + len(bodies))
    assert database["automation_triggers"].count_documents({}) == 1 + len(bodies)

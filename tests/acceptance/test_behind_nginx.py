"""Two web servers behind a real nginx, as deploy/nginx.conf has them, and clients that do harm."""

import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.load import open_database
from tests.support.processes import ROOT, LoggedProcess, list_children
from tests.support.waiting import wait_until
from tests.support.web_server import WebServer, is_answering, post_signed, request
from tests.support.webhook_cases import PATH, build_automation, build_body, build_comment
from tracking.embedded import server as embedded
from tracking.embedded.mongod import choose_port

LARGE = b" " * 20_000_000
_HEAD = """
daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr;
events {{}}
http {{
    access_log off; client_body_temp_path {directory}; proxy_temp_path {directory};
    fastcgi_temp_path {directory}; uwsgi_temp_path {directory}; scgi_temp_path {directory};
"""


class Nginx(LoggedProcess):
    """nginx with our configuration; what it reads of bodies before it asks is `buffering`."""

    def __init__(self, directory: Path, servers: list[WebServer], buffering: str) -> None:
        self.port = choose_port()
        text = (ROOT / "deploy/nginx.conf").read_text()
        for old, new in {
            "listen 443 ssl": f"listen 127.0.0.1:{self.port}; proxy_request_buffering {buffering}",
            "127.0.0.1:8080": f"127.0.0.1:{servers[0].port}",
            "127.0.0.1:8081": f"127.0.0.1:{servers[1].port}",
            "client_max_body_size 5m": "client_max_body_size 0",  # they must hold out by themselves
            "$scheme": "https",
        }.items():
            assert old in text
            text = text.replace(old, new)
        lines = [line for line in text.splitlines() if "ssl_certificate" not in line]
        path = directory / f"{buffering}.conf"
        path.write_text("\n".join([_HEAD.format(directory=directory), *lines, "}"]))
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "install nginx-light"
        super().__init__(
            [program, "-p", str(directory), "-c", str(path)],
            log_path=directory / f"nginx-{buffering}.log", environment=os.environ,
        )  # fmt: skip

    def is_ready(self) -> bool:
        return is_answering(self.port)


class Site:
    """One nginx in front of both servers, and their database."""

    def __init__(self, nginx: Nginx, servers: list[WebServer], database: Any) -> None:
        self.nginx, self.servers, self.database = nginx, servers, database
        self.numbers = iter(range(1000))

    def assert_works(self, *, seconds: float = 2.0) -> None:
        """Both servers answer, and none of the events is lost."""
        events = self.database["automation_triggers"]
        before = events.count_documents({})
        for _ in range(4):
            began = time.monotonic()
            assert request(self.nginx.port, "/healthz") == (200, b"ok")
            assert post_signed(self.nginx.port, self.build_delivery()) == 200
            assert time.monotonic() - began < seconds
        assert events.count_documents({}) == before + 4
        assert "no live upstreams" not in self.nginx.read_log()

    def build_delivery(self) -> bytes:
        return build_body(build_comment(next(self.numbers)))


@pytest.fixture(scope="module", params=["on", "off"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("nginx")
    uri = embedded.ensure_running(directory)
    with ExitStack() as stack:
        stack.callback(embedded.stop, directory)
        database = stack.enter_context(open_database(uri))
        database["automations"].insert_one(build_automation("a"))
        servers = [
            stack.enter_context(WebServer(directory, uri=uri, name=name)) for name in ("one", "two")
        ]
        nginx = stack.enter_context(Nginx(directory, servers, request.param))
        yield Site(nginx, servers, database)


def test_large_bodies_to_every_path_take_no_server_out(site: Site) -> None:
    for path in (PATH, f"{PATH}/data-deletion", "/login", "/api/x", "/healthz", "/static/x"):
        for content_type in ("application/json", "multipart/form-data; boundary=x"):
            headers = {"Content-Type": content_type}
            status, _ = request(site.nginx.port, path, method="POST", body=LARGE, headers=headers)
            assert status == 413
    site.assert_works()
    for server in site.servers:
        assert is_answering(server.port)
    assert "upstream timed out" not in site.nginx.read_log()


def test_slow_and_chunked_bodies_take_no_server_out(site: Site) -> None:
    with ExitStack() as stack:
        for number in range(64):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", site.nginx.port)))
            length = ("Content-Length: 100000", "Transfer-Encoding: chunked")[number % 2]
            head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\n{length}\r\n\r\n1000\r\n"
            one.sendall(head.encode() + b" " * 1000)
        site.assert_works()
        chunks = b"".join([b"100000\r\n%s\r\n" % (b" " * 0x100000) for _ in range(5)])
        with socket.create_connection(("127.0.0.1", site.nginx.port), timeout=10) as chunked:
            head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
            chunked.sendall(head.encode() + chunks + b"0\r\n\r\n")
            assert chunked.recv(100).startswith(b"HTTP/1.1 413 ")
        site.assert_works()


def test_a_server_that_hangs_is_left_out(site: Site) -> None:
    hung = site.servers[0]
    [worker] = list_children(hung.pid)
    hung.stop_in_its_tracks()  # so that nothing replaces the process
    os.kill(worker, signal.SIGSTOP)
    try:
        site.assert_works(seconds=5.0)
    finally:
        os.kill(worker, signal.SIGCONT)
        hung.go_on()
    wait_until(lambda: is_answering(hung.port), seconds=20)

"""A web server in processes of its own, as `serve` runs one, that tests may kill at any time."""

import http.client
import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from automations.operations import webserver
from tests.support.processes import LoggedProcess, build_environment, list_children
from tests.support.webhook_cases import PATH, SECRET, sign
from tracking.embedded.mongod import choose_port


class WebServer(LoggedProcess):
    """One address and the processes behind it: a parent, and one that answers."""

    def __init__(
        self, directory: Path, *, uri: str, name: str = "web", threads: int = 16, **extra: str
    ) -> None:
        self.port = choose_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = webserver.build_command(
            "project.wsgi.application", host="127.0.0.1", port=self.port, processes=1,
            threads=threads,
        )  # fmt: skip
        environment = build_environment(MONGODB_URI=uri, **extra)
        super().__init__(command, log_path=directory / f"{name}.log", environment=environment)

    def is_ready(self) -> bool:
        return is_answering(self.port)

    def kill_worker(self) -> int:
        """Kill -9 the process that answers; its parent starts another. Returns how many it was."""
        pids = list_children(self.pid)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)

    def list_messages(self) -> Iterator[str]:
        """Yield the message of every whole JSON log line; a kill may cut the last one short."""
        for line in self.read_log().splitlines():
            with suppress(ValueError):
                record: Any = json.loads(line)
                if isinstance(record, dict):
                    yield record["message"]


def request(
    port: int, path: str, *, method: str = "GET", body: bytes = b"",
    headers: Mapping[str, str] = {}, timeout: float = 10,
) -> tuple[int, bytes]:  # fmt: skip
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)) as connection:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()


def post_signed(port: int, body: bytes, secret: str = SECRET) -> int:
    """Return the status that the webhook answers to a body signed with the secret."""
    signed = {"X-Hub-Signature-256": sign(body, secret), "Content-Type": "application/json"}
    return request(port, PATH, method="POST", body=body, headers=signed)[0]


def is_answering(port: int) -> bool:
    try:
        return request(port, "/healthz", timeout=1) == (200, b"ok")
    except (OSError, http.client.HTTPException):
        return False

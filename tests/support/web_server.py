"""A web server in processes of its own, as `serve` runs one, that tests may kill at any time."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from automations.operations import webserver
from tracking.embedded.mongod import choose_port

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0
SECRET = "test-app-secret"


class WebServer:
    """One address and the processes behind it: a parent, and one that answers."""

    def __init__(
        self, directory: Path, *, uri: str, name: str = "web", threads: int = 16, **extra: str
    ) -> None:
        self.port = choose_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = directory / f"{name}.log"
        self._threads = threads
        self._environment = build_environment(uri, **extra)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> WebServer:
        self.start()
        try:
            self.wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                webserver.build_command(
                    "project.wsgi.application",
                    host="127.0.0.1",
                    port=self.port,
                    processes=1,
                    threads=self._threads,
                ),
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Return once it answers. Raises AssertionError with its log when it does not."""
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready():
            is_alive = self._process is not None and self._process.poll() is None
            assert is_alive, f"it ended: {self.read_log()[-2000:]}"
            assert time.monotonic() < deadline, f"it never answers: {self.read_log()[-2000:]}"
            time.sleep(0.02)

    def is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def start_if_ended(self) -> None:
        """Start again what gave up by itself, as the supervisor of `serve` does."""
        if self._process is not None and self._process.poll() is not None:
            self.kill()
            self.start()

    def kill(self) -> None:
        """Kill -9 every process at once."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def kill_worker(self) -> int:
        """Kill -9 the process that answers; its parent starts another. Returns how many it was."""
        pids = self.list_workers()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)

    def list_workers(self) -> list[int]:
        if self._process is None:
            return []
        parent = self._process.pid
        with suppress(OSError):
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
            return [int(pid) for pid in children.split()]
        return []

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        finally:
            self.kill()

    def read_log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def list_messages(self) -> Iterator[str]:
        """Yield the message of every whole JSON log line; a kill may cut the last one short."""
        for line in self.read_log().splitlines():
            with suppress(ValueError):
                record: Any = json.loads(line)
                if isinstance(record, dict):
                    yield record["message"]


def build_environment(uri: str, **extra: str) -> Mapping[str, str]:
    """Return the environment of a process on this database, with nothing of the developer's."""
    own = (
        "API_", "DJANGO_", "FIELD_ENCRYPTION_", "INSTAGRAM_", "METRICS_", "MONGODB_", "PROMETHEUS_",
        "TRACKING_", "TEST_",
    )  # fmt: skip
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return {
        **kept,
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DJANGO_SECRET_KEY": "test-secret-key-of-no-worth-elsewhere",
        "INSTAGRAM_APP_SECRET": SECRET,
        "INSTAGRAM_VERIFY_TOKEN": "test-verify-token",
        "MONGODB_URI": uri,
        "PYTHONUNBUFFERED": "1",
        **extra,
    }


def start_command(*arguments: str, uri: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=build_environment(uri),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

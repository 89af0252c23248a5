"""What is measured, and how each is started on a database of its own."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.processes import Process, choose_port
from tests.benchmarks.server import Server
from tests.benchmarks.workload import APP_SECRET

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PORT_THREADS = 64  # of the port: one for each connection, as it has no group commit
_APPLICATION = "project.wsgi.application"
_PORT_APPLICATION = "tests.benchmarks.port.wsgi.application"


class Start(NamedTuple):
    command: Sequence[str]
    environment: Mapping[str, str]


class Candidate(NamedTuple):
    """A system to measure. `build` gets the port and the URI of its database."""

    name: str
    build: Callable[[int, str], Start]
    is_ours: bool = False
    root: Path = ROOT  # where its code is


class Running:
    def __init__(self, candidate: Candidate, *, server: Server, database: str) -> None:
        self.candidate = candidate
        self.database = database
        self.port = choose_port()
        start = candidate.build(self.port, server.build_uri(database))
        log = server.directory / f"{database}.log"
        self.process = Process(
            start.command, environment=start.environment,
            cwd=candidate.root, log=log,
        )  # fmt: skip
        self.process.wait_until_listening(self.port)


def build_environment(uri: str, *, root: Path = ROOT) -> dict[str, str]:
    return {
        "MONGODB_URI": uri,
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DJANGO_SECRET_KEY": "benchmark-" + "0123456789" * 5,
        "DJANGO_ALLOWED_HOSTS": "localhost,127.0.0.1",
        "INSTAGRAM_APP_SECRET": APP_SECRET,
        # What is measured is counting; the peers send nothing either.
        "INSTAGRAM_SENDING": "off",
        # One reader asks as fast as it is answered.
        "API_REQUESTS_PER_MINUTE": "0",
        "PYTHONPATH": str(root),
    }


def serve(processes: int, *, root: Path = ROOT) -> Candidate:
    def build(port: int, uri: str) -> Start:
        command = [sys.executable, "manage.py", "serve", "--port", str(port)]
        environment = build_environment(uri, root=root)
        return Start([*command, "--processes", str(processes)], environment)

    return Candidate(f"ours, {_count(processes)}", build, is_ours=True, root=root)


def granian(processes: int, threads: int, *, application: str = _APPLICATION) -> Candidate:
    def build(port: int, uri: str) -> Start:
        return Start(
            [
                *(sys.executable, "-m", "automations.operations.webserver", application),
                *("--host", "127.0.0.1", "--port", str(port), "--parent", str(os.getpid())),
                *("--processes", str(processes), "--threads", str(threads)),
            ],
            build_environment(uri),
        )

    name = f"granian, {_count(processes)} x {threads} threads"
    return Candidate(name, build, is_ours=application == _APPLICATION)


def gunicorn(processes: int, threads: int) -> Candidate | None:
    """Return our application behind gunicorn's threads, None where it is not installed."""
    if importlib.util.find_spec("gunicorn") is None:
        return None

    def build(port: int, uri: str) -> Start:
        return Start(
            [
                *(sys.executable, "-m", "gunicorn", "project.wsgi:application"),
                *("--bind", f"127.0.0.1:{port}", "--worker-class", "gthread"),
                *("--workers", str(processes), "--threads", str(threads)),
                *("--config", "python:tests.benchmarks.gunicorn_conf", "--log-level", "error"),
            ],
            build_environment(uri),
        )

    return Candidate(f"gunicorn, {_count(processes)} x {threads} threads", build, is_ours=True)


def port(processes: int) -> Candidate:
    """Return the peer's algorithm in Python: pymongo, event by event, behind our web server."""
    candidate = granian(processes, PORT_THREADS, application=_PORT_APPLICATION)
    return candidate._replace(name=f"port to pymongo, {_count(processes)}", is_ours=False)


class Peer:
    """The system we replace, on Node; `why_not` says why it is left out."""

    def __init__(self) -> None:
        self.why_not = ""
        self._directory = Path(tempfile.mkdtemp(prefix="bench-peer-"))
        if not (shutil.which("node") and shutil.which("npm")):
            self.why_not = "Node and npm are not installed"
            return
        shutil.copytree(HERE / "peer_node", self._directory, dirs_exist_ok=True)
        try:
            subprocess.run(
                ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"],
                cwd=self._directory, check=True, capture_output=True, timeout=180,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            self.why_not = "npm install failed"

    def list_modes(self) -> list[Candidate]:
        """Return the naive and the fair one; none where Node is missing."""
        return [] if self.why_not else [self._build("naive"), self._build("fair")]

    def find_mode(self, mode: str) -> list[Candidate]:
        return [] if self.why_not else [self._build(mode)]

    def remove(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    def _build(self, mode: str) -> Candidate:
        script = str(self._directory / "server.js")

        def build(port: int, uri: str) -> Start:
            environment = {
                "MONGODB_URI": uri,
                "INSTAGRAM_APP_SECRET": APP_SECRET,
                "PORT": str(port),
                "MODE": mode,
                "NODE_ENV": "production",
            }
            return Start([shutil.which("node") or "node", script], environment)

        return Candidate(f"Node, {mode}", build)


def run_command(*arguments: str, uri: str, root: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=root, env={**os.environ, **build_environment(uri, root=root)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"manage.py {arguments[0]} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def _count(processes: int) -> str:
    return "1 process" if processes == 1 else f"{processes} processes"

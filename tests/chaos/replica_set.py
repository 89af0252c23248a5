"""A replica set of small mongods on this machine, whose members die, hang, and come back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tracking.embedded import mongod

NAME = "members"
# What a production set has at 10 s; shorter elections make more of them in a test.
ELECTION_MILLISECONDS = 2000
HEARTBEAT_MILLISECONDS = 500
_LOOK_SECONDS = 0.05
_EXEC_WITH_PARENT = Path(mongod.__file__).with_name("exec_with_parent.py")
_OPTIONS = (
    *("--bind_ip", mongod.HOST),
    *("--networkMessageCompressors", "snappy,zstd"),
    "--noscripting",
    "--nounixsocket",
    *("--wiredTigerCacheSizeGB", "0.25"),
    *("--oplogSize", "64"),
    *("--setParameter", "transactionLifetimeLimitSeconds=5"),
    *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100"),
    # Snapshots of an hour would keep what the small oplog lets go of.
    *("--setParameter", "minSnapshotHistoryWindowInSeconds=5"),
    "--quiet",
)


class Member:
    """One mongod; it is killed when the thread that started it ends."""

    def __init__(self, directory: Path, number: int) -> None:
        self.port = mongod.choose_port()
        self.host = f"{mongod.HOST}:{self.port}"
        self._directory = directory / f"member-{number}"
        self._directory.mkdir(parents=True)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return 0 if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it on its directory and port; it answers about a second later."""
        if self._process is not None and self._process.poll() is None:
            return
        with (self._directory / "mongod.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", str(_EXEC_WITH_PARENT), str(os.getpid())),
                    *(str(mongod.find_mongod()), "--port", str(self.port)),
                    *("--dbpath", str(self._directory), "--replSet", NAME, *_OPTIONS),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop_in_its_tracks(self) -> None:
        """Let it hang with its sockets open, as a machine does whose disk is gone."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    def hello(self) -> dict[str, Any]:
        """Return what it says of itself; nothing when it does not answer."""
        try:
            with MongoClient[dict[str, Any]](
                mongod.HOST, self.port, directConnection=True, serverSelectionTimeoutMS=500,
                socketTimeoutMS=1000,
            ) as client:  # fmt: skip
                return client.admin.command("hello")
        except PyMongoError:
            return {}


class ReplicaSet:
    """Some members in a directory; `uri` names them all."""

    def __init__(self, directory: Path, *, size: int = 3) -> None:
        self.members = [Member(directory, number) for number in range(size)]
        hosts = ",".join(member.host for member in self.members)
        self.uri = f"mongodb://{hosts}/runs?replicaSet={NAME}"

    def __enter__(self) -> ReplicaSet:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start every member and make them a set with a primary."""
        for member in self.members:
            member.start()
        members = [{"_id": at, "host": one.host} for at, one in enumerate(self.members)]
        config = {
            "_id": NAME,
            "members": members,
            "settings": {
                "electionTimeoutMillis": ELECTION_MILLISECONDS,
                "heartbeatIntervalMillis": HEARTBEAT_MILLISECONDS,
            },
        }
        for member in self.members:
            _wait_until(lambda member=member: bool(member.hello()), seconds=60)
        first = self.members[0]
        with MongoClient[Any](mongod.HOST, first.port, directConnection=True) as client:
            client.admin.command("replSetInitiate", config)
        self.wait_until_whole()

    def stop(self) -> None:
        """End every member at once; its data is of no more use."""
        for member in self.members:
            member.kill()

    def find_primary(self) -> Member | None:
        found = (one for one in self.members if one.hello().get("isWritablePrimary"))
        return next(found, None)

    def get_primary(self, *, seconds: float = 60) -> Member:
        _wait_until(lambda: self.find_primary() is not None, seconds=seconds)
        primary = self.find_primary()
        return self.get_primary(seconds=seconds) if primary is None else primary

    def step_down(self) -> None:
        primary = self.get_primary()
        with (
            suppress(PyMongoError),  # it may close our connection with its office
            MongoClient[Any](mongod.HOST, primary.port, directConnection=True) as client,
        ):
            client.admin.command("replSetStepDown", 5, secondaryCatchUpPeriodSecs=2)

    def wait_until_whole(self, *, seconds: float = 60) -> None:
        def is_whole() -> bool:
            answers = [member.hello() for member in self.members]
            primaries = sum(bool(one.get("isWritablePrimary")) for one in answers)
            secondaries = sum(bool(one.get("secondary")) for one in answers)
            return primaries == 1 and primaries + secondaries == len(answers)

        _wait_until(is_whole, seconds=seconds)


def _wait_until(is_so: Any, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError("The replica set does not become whole.")
        time.sleep(_LOOK_SECONDS)

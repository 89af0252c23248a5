"""A replica set of small mongods on this machine, whose members die, hang, and come back."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests.support.processes import LoggedProcess, tie_to_parent
from tests.support.waiting import wait_until
from tracking.embedded import mongod

NAME = "members"
# What a production set has at 10 s; shorter elections make more of them in a test.
_SETTINGS = {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500}
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


class Member(LoggedProcess):
    """One mongod, which answers about a second after its start."""

    def __init__(self, directory: Path, number: int) -> None:
        self.port = mongod.choose_port()
        self.host = f"{mongod.HOST}:{self.port}"
        directory = directory / f"member-{number}"
        directory.mkdir(parents=True)
        command = tie_to_parent(
            *(str(mongod.find_mongod()), "--port", str(self.port)),
            *("--dbpath", str(directory), "--replSet", NAME, *_OPTIONS),
        )
        super().__init__(command, log_path=directory / "mongod.log", environment=os.environ)

    def is_ready(self) -> bool:
        return bool(self.hello())

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

    def command(self, *command: Any, **options: Any) -> None:
        with MongoClient[Any](mongod.HOST, self.port, directConnection=True) as client:
            client.admin.command(*command, **options)


class ReplicaSet:
    """Some members in a directory; `uri` names them all."""

    def __init__(self, directory: Path, *, size: int = 3) -> None:
        self.members = [Member(directory, number) for number in range(size)]
        hosts = ",".join(member.host for member in self.members)
        self.uri = f"mongodb://{hosts}/runs?replicaSet={NAME}"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End every member at once; its data is of no more use."""
        for member in self.members:
            member.kill()

    def start(self) -> None:
        for member in self.members:
            member.start()
        for member in self.members:
            member.wait_until_ready()
        members = [{"_id": at, "host": one.host} for at, one in enumerate(self.members)]
        config = {"_id": NAME, "members": members, "settings": _SETTINGS}
        self.members[0].command("replSetInitiate", config)
        self.wait_until_whole()

    def find_primary(self) -> Member | None:
        found = (one for one in self.members if one.hello().get("isWritablePrimary"))
        return next(found, None)

    def get_primary(self) -> Member:
        wait_until(self.find_primary, seconds=60, what=lambda: "a primary")
        return self.find_primary() or self.get_primary()

    def step_down(self) -> None:
        with suppress(PyMongoError):  # it may close our connection with its office
            self.get_primary().command("replSetStepDown", 5, secondaryCatchUpPeriodSecs=2)

    def wait_until_whole(self) -> None:
        """Return once one member is primary and all others are secondaries."""

        def is_whole() -> bool:
            answers = [member.hello() for member in self.members]
            primaries = sum(bool(one.get("isWritablePrimary")) for one in answers)
            secondaries = sum(bool(one.get("secondary")) for one in answers)
            return primaries == 1 and primaries + secondaries == len(answers)

        wait_until(is_whole, seconds=60, what=lambda: "a whole replica set")

"""What MongoDB can be made to do wrong: fail points, only on the server of the chaos run.

https://github.com/mongodb/mongo/wiki/The-%22failCommand%22-fail-point. They hit what the product
sends, by its application name, and nobody else.
"""

from contextlib import suppress
from typing import Any

import msgspec
from pymongo import MongoClient
from pymongo.errors import PyMongoError

_PRODUCT = "automation-run-tracking"
_WRITES = ["insert", "update", "findAndModify", "delete"]
_ALL = [*_WRITES, "find", "aggregate", "commitTransaction"]
# 189 PrimarySteppedDown, 10107 NotWritablePrimary, 11602 InterruptedDueToReplStateChange.
_ELECTION = (189, 10107, 11602)
_SHUTDOWN = 91


class FailPoint(msgspec.Struct, frozen=True):
    """A fail point, with the probability that it hits a command it is made for."""

    name: str
    data: dict[str, Any]
    probability: float


def _fail(commands: list[str], probability: float, **data: Any) -> FailPoint:
    return FailPoint(
        "failCommand", {"failCommands": commands, "appName": _PRODUCT, **data}, probability
    )


FAIL_POINTS: dict[str, FailPoint] = {
    "connection lost": _fail(_ALL, 0.2, closeConnection=True),
    # The write is done, and the client does not hear of it: retryable writes.
    "reply lost after the write": FailPoint(
        "onPrimaryTransactionalWrite", {"closeConnection": True}, 0.3
    ),
    # The same for a transaction: it is committed, and the answer is an error that says try again.
    "reply lost after the commit": _fail(
        ["commitTransaction"], 0.5,
        writeConcernError={"code": _SHUTDOWN, "errmsg": "reply lost after the commit"},
    ),
    **{f"election error {code}": _fail(_ALL, 0.2, errorCode=code) for code in _ELECTION},
    "shutdown errors": _fail(_ALL, 0.2, errorCode=_SHUTDOWN),
    # Whoever is killed meanwhile leaves an open transaction behind, and its keys locked.
    "slow commit": _fail(["commitTransaction"], 0.7, blockConnection=True, blockTimeMS=700),
    "slow writes": _fail(_WRITES, 0.3, blockConnection=True, blockTimeMS=400),
}  # fmt: skip
# These tell clients that the topology changes, and in an election it does.
_CHANGES_TOPOLOGY = ("election error", "shutdown errors", "reply lost after the commit")


class Faults:
    """The faults of one server; without it (killed, not back) there are none to set."""

    def __init__(self, client: MongoClient[dict[str, Any]]) -> None:
        self._admin = client.admin
        self.hits = 0  # commands that met a fault; those of a server that was killed are unknown
        self._met = 0
        self._current = "none"
        self._elections = 0

    def begin(self, fault: str) -> None:
        if fault == "election errors":
            fault = f"election error {_ELECTION[self._elections % len(_ELECTION)]}"
            self._elections += 1
        self._current = fault
        with suppress(PyMongoError):
            if fault == "step down":
                # It is its own only voter, and stands again after this second.
                self._admin.command("replSetStepDown", 1, force=True, secondaryCatchUpPeriodSecs=0)
            if point := FAIL_POINTS.get(fault):
                self._met = self._configure(point, {"activationProbability": point.probability})

    def end(self) -> None:
        """Behave again, as a new primary would."""
        with suppress(PyMongoError):
            if point := FAIL_POINTS.get(self._current):
                self.hits += self._configure(point, "off") - self._met
            if self._current.startswith(_CHANGES_TOPOLOGY):
                self._change_topology()
        self._current = "none"

    def _configure(self, point: FailPoint, mode: Any) -> int:
        """Return how often the point was met since the server started."""
        done = self._admin.command("configureFailPoint", point.name, mode=mode, data=point.data)
        count: int = done["count"]
        return count

    def _change_topology(self) -> None:
        """Raise the topology version: a client that took the errors for true waits for that."""
        config = self._admin.command("replSetGetConfig")["config"]
        self._admin.command("replSetReconfig", config | {"version": config["version"] + 1})

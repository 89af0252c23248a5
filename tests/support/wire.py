"""Processes that die, stall or are overtaken at one exact command.

A process is a client of its own with a `Wire` on it: pymongo tells it of every command before it is
sent and after its reply came (https://pymongo.readthedocs.io/en/stable/api/pymongo/monitoring.html).
There the process may die, which is a `Crash` that no `except Exception` catches and that every
later command raises again, so that nothing is cleaned up; or something else may happen meanwhile,
in the middle of its work.
"""

import contextvars
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from tracking.counting.counter import Counter
from tracking.counting.storage import Storage, _encode
from tracking.rollups.folding import Folder
from tracking.runs import Outcome, Trigger

Document = dict[str, Any]

# The command of that number, or the first of that name on that collection; of commits the first of
# all, or with a name the first that counts triggers.
Place = int | tuple[str, str]


class Crash(BaseException):
    """The process ends here, without a word to anybody."""


class Wire(CommandListener):
    """Everything that one process sends to the server."""

    def __init__(self) -> None:
        self.on_commit: Callable[[Document], None] = lambda _: None
        self.reset()

    def reset(self) -> None:
        self.is_dead = False
        self.error: Exception | None = None
        self._commands = 0
        # By session: the decisions that its open transaction stores, None where there are none.
        self.open: dict[bytes, Document | None] = {}
        self._ending = b""
        self._strike_at: tuple[Place, bool] | None = None
        self._strike: Callable[[], None] = lambda: None
        self._is_struck = False

    def arm(self, strike: Callable[[], None], *, place: Place, is_after_reply: bool) -> None:
        """Call `strike` at the next command of that place, once."""
        self._commands = 0
        self._strike_at = (place, is_after_reply)
        self._strike = strike

    def disarm(self) -> None:
        self._strike_at = None

    def die(self) -> None:
        self.is_dead = True
        raise Crash

    def started(self, event: CommandStartedEvent) -> None:
        """Take note of a command, or strike before it is sent."""
        if self.is_dead:
            raise Crash
        self._is_struck = self._is_at_strike(event)
        self._commands += 1
        self._strike_if_due(is_after_reply=False)
        command = event.command
        if command.get("autocommit") is not False:
            return
        session = bytes(command["lsid"]["id"])
        if command.get("startTransaction"):
            self.open[session] = None
        if command.get("update") == "tracking_partitions":
            self.open[session] = command["updates"][0]["u"].get("$set", {}).get("batch")
        elif event.command_name in {"commitTransaction", "abortTransaction"}:
            self._ending = session

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Report a commit, or strike after the reply."""
        if event.command_name == "commitTransaction":
            marks = self.open.pop(self._ending, None)
            if marks is not None:
                self._guard(lambda: self.on_commit(marks))
        elif event.command_name == "abortTransaction":
            self.open.pop(self._ending, None)
        self._strike_if_due(is_after_reply=True)

    def failed(self, event: CommandFailedEvent) -> None:
        """Take note of a transaction that is gone."""
        if event.command_name in {"commitTransaction", "abortTransaction"}:
            self.open.pop(self._ending, None)

    def _is_at_strike(self, event: CommandStartedEvent) -> bool:
        if self._strike_at is None:
            return False
        place, _ = self._strike_at
        if isinstance(place, int):
            return place == self._commands
        command, collection = place
        if event.command_name != command:
            return False
        if command == "commitTransaction":
            session = bytes(event.command["lsid"]["id"])
            return not collection or self.open.get(session) is not None
        return bool(event.command[command] == collection)

    def _strike_if_due(self, *, is_after_reply: bool) -> None:
        if self._is_struck and self._strike_at and self._strike_at[1] == is_after_reply:
            self._strike_at = None
            # In a context of its own: this process's time limits are not the other one's.
            contextvars.Context().run(self._guard, self._strike)

    def _guard(self, call: Callable[[], None]) -> None:
        """Keep an error for the test: pymongo only prints what a listener raises."""
        try:
            call()
        except Exception as error:  # noqa: BLE001 - any, and every failed assertion
            self.error = error
            self.die()


class Process:
    """One process that stores and counts, in the thread of the test."""

    def __init__(self, uri: str) -> None:
        self.wire = Wire()
        self.client = MongoClient[Document](
            uri, tz_aware=True, w="majority", journal=True, event_listeners=[self.wire]
        )

    def start(self, database: str, *, window: timedelta) -> None:
        self.wire.reset()
        self.database: Database[Document] = self.client[database]
        self.counter = Counter(self.database, window=window, is_dedicated=True)
        self.folder = Folder(self.database)

    def store(self, triggers: Sequence[Trigger]) -> list[Outcome]:
        """Store triggers without the thread that shares inserts."""
        rows = [row for row in map(_encode, triggers) if row is not None]
        return Storage(self.database)._insert(rows, time.monotonic() + 10)

    def count(self) -> None:
        """Do one step, and what the thread does where it fails."""
        self.counter._look_at = self.counter._read_all_at = 0
        try:
            self.counter.step()
        except Exception as error:  # noqa: BLE001 - as the thread itself does
            self.counter._handle_failure(error)

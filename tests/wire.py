"""Processes that die, stall or are overtaken at one exact command.

A writing process is a client of its own with a `Wire` on it: pymongo tells it of every command
before it is sent and after its reply came (https://pymongo.readthedocs.io/en/stable/api/pymongo/
monitoring.html). There the process may die, which is a `Crash` that no `except Exception` catches
and that every later command raises again, so that nothing is cleaned up; or something else may
happen meanwhile, in the middle of its flush.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
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

from tracking.committer import Committer
from tracking.flush import Flusher
from tracking.folding import Folder
from tracking.runs import Trigger

_WRITES = frozenset({"insert", "update", "delete"})


class Crash(BaseException):
    """The process ends here, without a word to anybody."""


class Wire(CommandListener):
    """Everything that one process sends to the server."""

    def __init__(self) -> None:
        self.on_commit: Callable[[list[str]], None] = lambda _: None
        self.reset()

    def reset(self) -> None:
        """Let another process have the line."""
        self.is_dead = False
        self.error: Exception | None = None
        self.commands = 0
        # By session: the events that its open transaction stored, None before its first write.
        self.open: dict[bytes, list[str] | None] = {}
        self.sent: list[CommandStartedEvent] = []
        self._strike_at: tuple[int, bool] | None = None
        self._strike: Callable[[], None] = lambda: None

    def arm(self, strike: Callable[[], None], *, number: int, is_after_reply: bool) -> None:
        """Call `strike` at the command of that number from now on, once."""
        self.commands = 0
        self._strike_at = (number, is_after_reply)
        self._strike = strike

    def disarm(self) -> None:
        """Forget a strike that no command came to."""
        self._strike_at = None

    def die(self) -> None:
        """End the process at the command that is under way."""
        self.is_dead = True
        raise Crash

    @property
    def has_written(self) -> bool:
        """Whether a transaction is open that holds locks."""
        return any(events is not None for events in self.open.values())

    def started(self, event: CommandStartedEvent) -> None:
        """Take note of a command, or strike before it is sent."""
        if self.is_dead:
            raise Crash
        self._strike_if_due(is_after_reply=False)
        self.sent.append(event)
        if "txnNumber" not in event.command or event.command.get("autocommit") is not False:
            return
        session = bytes(event.command["lsid"]["id"])
        if event.command.get("startTransaction"):
            self.open[session] = None
        if event.command_name in _WRITES:
            events = self.open.get(session) or []
            if event.command.get("insert") == "automation_triggers":
                events += [document["_id"] for document in event.command["documents"]]
            self.open[session] = events
        elif event.command_name in {"commitTransaction", "abortTransaction"}:
            self._ending = session

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Report a commit, or strike after the reply."""
        if event.command_name == "commitTransaction":
            events = self.open.pop(self._ending, None) or []
            self._guard(lambda: self.on_commit(events))
        elif event.command_name == "abortTransaction":
            self.open.pop(self._ending, None)
        self._strike_if_due(is_after_reply=True)
        self.commands += 1

    def failed(self, event: CommandFailedEvent) -> None:
        """Count it: the next command is another place to strike."""
        if event.command_name in {"commitTransaction", "abortTransaction"}:
            self.open.pop(self._ending, None)
        self.commands += 1

    def _strike_if_due(self, *, is_after_reply: bool) -> None:
        if self._strike_at == (self.commands, is_after_reply):
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
    """One writing process: its own client, session, lease and caches."""

    def __init__(self, uri: str) -> None:
        self.wire = Wire()
        self.client = MongoClient[dict[str, Any]](
            uri, tz_aware=True, w="majority", journal=True, event_listeners=[self.wire]
        )
        self.in_flight: list[Trigger] = []
        self.committed: dict[str, str] = {}

    def start(self, database: str, *, window: timedelta) -> None:
        """Begin anew, as a process that has just been started."""
        self.wire.reset()
        self.database: Database[dict[str, Any]] = self.client[database]
        self.flusher = Flusher(self.database, window=window)
        self.committer = Committer(self.flusher)
        self.folder = Folder(self.database)

    @property
    def owner(self) -> str:
        """The name of this process in `tracking_writers`."""
        return self.flusher.lease._owner

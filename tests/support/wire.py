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

from tracking.counting.committer import Committer
from tracking.counting.flush import Flusher
from tracking.rollups.folding import Folder
from tracking.runs import Trigger

Document = dict[str, Any]

STATS = "automation_run_stats"
_WRITES = frozenset({"insert", "update", "delete"})

# The command of that number, or the first of that name on that collection; of commits the first of
# all, or with a name the first that stores triggers.
Place = int | tuple[str, str]


class Crash(BaseException):
    """The process ends here, without a word to anybody."""


class Wire(CommandListener):
    """Everything that one process sends to the server."""

    def __init__(self) -> None:
        self.on_commit: Callable[[list[Document]], None] = lambda _: None
        self.reset()

    def reset(self) -> None:
        """Let another process have the line."""
        self.is_dead = False
        self.error: Exception | None = None
        self._commands = 0
        # By session: the triggers that its open transaction stored, None before its first write.
        self.open: dict[bytes, list[Document] | None] = {}
        self.sent: list[CommandStartedEvent] = []
        self._strike_at: tuple[Place, bool] | None = None
        self._strike: Callable[[], None] = lambda: None
        self._is_struck = False

    def arm(self, strike: Callable[[], None], *, place: Place, is_after_reply: bool) -> None:
        """Call `strike` at the next command of that place, once."""
        self._commands = 0
        self._strike_at = (place, is_after_reply)
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
        return any(triggers is not None for triggers in self.open.values())

    @property
    def is_taking_bases(self) -> bool:
        """Whether a transaction is open that has just inserted base documents."""
        last = self.sent[-1] if self.sent else None
        return self.has_written and last is not None and last.command.get("insert") == STATS

    def started(self, event: CommandStartedEvent) -> None:
        """Take note of a command, or strike before it is sent."""
        if self.is_dead:
            raise Crash
        self._is_struck = self._is_at_strike(event)
        self._commands += 1
        self._strike_if_due(is_after_reply=False)
        self.sent.append(event)
        if "txnNumber" not in event.command or event.command.get("autocommit") is not False:
            return
        session = bytes(event.command["lsid"]["id"])
        if event.command.get("startTransaction"):
            self.open[session] = None
        if event.command_name in _WRITES:
            triggers = self.open.get(session) or []
            if event.command.get("insert") == "automation_triggers":
                triggers += event.command["documents"]
            if event.command.get("update") == "automation_triggers":
                # Only a replay changes an outcome; it is reported without the other fields.
                changes = [one["q"] | one["u"].get("$set", {}) for one in event.command["updates"]]
                triggers += [one for one in changes if "outcome" in one]
            self.open[session] = triggers
        elif event.command_name in {"commitTransaction", "abortTransaction"}:
            self._ending = session

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Report a commit, or strike after the reply."""
        if event.command_name == "commitTransaction":
            triggers = self.open.pop(self._ending, None) or []
            self._guard(lambda: self.on_commit(triggers))
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
            return not collection or bool(self.open.get(bytes(event.command["lsid"]["id"])))
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
    """One writing process: its own client, session, lease and caches."""

    def __init__(self, uri: str) -> None:
        self.wire = Wire()
        self.client = MongoClient[Document](
            uri, tz_aware=True, w="majority", journal=True, event_listeners=[self.wire]
        )
        self.in_flight: list[Trigger] = []
        self.is_failing = False
        self.committed: dict[str, str] = {}

    def start(self, database: str, *, window: timedelta) -> None:
        """Begin anew, as a process that has just been started."""
        self.wire.reset()
        self.database: Database[Document] = self.client[database]
        self.flusher = Flusher(self.database, window=window)
        self.committer = Committer(self.flusher)
        self.folder = Folder(self.database, on_session=self.flusher.lease.name_session)

    @property
    def owner(self) -> str:
        """The name of this process in `tracking_writers`."""
        return self.flusher.lease._owner

"""One server, several processes and one clock, for histories that are played on them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from unittest import mock

from bson import Binary
from bson.binary import UUID_SUBTYPE
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import AutoReconnect

from tests.support.triggers import T0, WINDOW
from tests.support.wire import Document, Process

COLLECTIONS = (
    "automations", "automation_runs", "automation_contacts", "automation_triggers",
    "automation_run_stats", "tracking_partitions", "tracking_switch",
)  # fmt: skip


class Laboratory:
    def __init__(self, db: Database[Document], uri: str) -> None:
        self.db = db
        self.now = T0
        self._uri = uri
        self._processes: list[Process] = []
        self._started = 0

    def read_now(self) -> datetime:
        return self.now

    def clear(self) -> None:
        for process in self._processes:
            self.kill_sessions(process.wire.open)
        for name in COLLECTIONS:
            self.db[name].delete_many({})
        self.now = T0
        self._started = 0

    def start_process(self) -> Process:
        if self._started == len(self._processes):
            self._processes.append(Process(self._uri))
        process = self._processes[self._started]
        self._started += 1
        process.start(self.db.name, window=WINDOW)
        return process

    def kill_sessions(self, sessions: Iterable[bytes]) -> None:
        """End transactions as the server does in the end by itself."""
        ids = [{"id": Binary(session, UUID_SUBTYPE)} for session in sessions]
        if ids:
            self.db.client.admin.command("killSessions", ids)

    def close(self) -> None:
        self.clear()
        for process in self._processes:
            process.wire.reset()
            process.client.close()


@contextmanager
def lose_commit_replies(client: MongoClient[Document], times: int) -> Iterator[None]:
    """Let the client's commits happen and it not hear of them, as when a connection breaks."""
    commit = ClientSession.commit_transaction
    left = times

    def commit_and_lose(session: ClientSession) -> None:
        nonlocal left
        commit(session)
        if session.client is client and left:
            left -= 1
            raise AutoReconnect("connection closed")

    with mock.patch.object(ClientSession, "commit_transaction", commit_and_lose):
        yield

"""What tests of tracking share: writers that are closed afterwards, and a server to break."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.monitoring import CommandListener, CommandStartedEvent

from tests.conftest import prepare
from tests.support.tracker import Tracker
from tests.support.verification_cases import fill
from tracking.counting.storage import Storage
from tracking.embedded import server as embedded

Document = dict[str, Any]
Db = Database[Document]
MakeTracker = Callable[..., Tracker]
FailPoint = Callable[..., AbstractContextManager[None]]

# Fail points name it, so that they hit nothing but the code under test.
VICTIM = "victim"


class Recorder(CommandListener):
    """Remembers the commands of a client."""

    def __init__(self) -> None:
        self.events: list[CommandStartedEvent] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.events.append(event)

    def succeeded(self, event: Any) -> None: ...

    def failed(self, event: Any) -> None: ...


def explain(db: Db, event: CommandStartedEvent) -> dict[str, Any]:
    """Return the plan of a recorded read, and what it made the server look at."""
    names = ("find", "aggregate", "pipeline", "cursor", "filter", "projection", "sort", "limit",
             "hint", "batchSize")  # fmt: skip
    command = {name: event.command[name] for name in names if name in event.command}
    return db.command("explain", command, verbosity="executionStats")


@contextmanager
def flow(send: Callable[[int], Any]) -> Iterator[list[Any]]:
    """Call `send(1)`, `send(2)`, ... in a thread beside the block; yield what they return."""
    stop = threading.Event()
    sent: list[Any] = []

    def send_all() -> None:
        while not stop.is_set():
            sent.append(send(len(sent) + 1))

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send_all)
        try:
            yield sent
        finally:
            stop.set()
        sending.result()


@pytest.fixture
def storage(db: Db) -> Iterator[Storage]:
    one = Storage(db)
    yield one
    one.close()


@pytest.fixture
def live(db: Db) -> Db:
    """A database where all is well."""
    fill(db)
    return db


@pytest.fixture
def make_tracker() -> Iterator[MakeTracker]:
    """Processes that store and count."""
    trackers: list[Tracker] = []

    def make(database: Database[Document], **options: Any) -> Tracker:
        trackers.append(Tracker(database, **options))
        return trackers[-1]

    yield make
    for tracker in trackers:
        tracker.close()


@pytest.fixture
def tracker(db: Database[Document], make_tracker: MakeTracker) -> Tracker:
    """One process on the test's database."""
    return make_tracker(db)


@pytest.fixture
def recorder() -> Recorder:
    """Remember the commands of `recorded_db`."""
    return Recorder()


@pytest.fixture
def recorded_db(
    db: Database[Document], mongodb_server: str, recorder: Recorder
) -> Iterator[Database[Document]]:
    """The test's database, through a client whose commands are remembered."""
    with MongoClient[dict[str, Any]](
        mongodb_server, tz_aware=True, event_listeners=[recorder]
    ) as client:
        yield client[db.name]


@pytest.fixture(scope="session")
def fragile_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of this worker alone, with fail points."""
    directory = tmp_path_factory.mktemp("fragile")
    yield embedded.ensure_running(directory, test_commands=True)
    embedded.stop(directory)


@pytest.fixture(scope="session")
def fragile_client(fragile_server: str) -> Iterator[MongoClient[Document]]:
    """A client that no fail point hits."""
    with MongoClient[Document](fragile_server, tz_aware=True, appname="test") as client:
        yield client


@pytest.fixture
def fragile_db(fragile_client: MongoClient[Document]) -> Database[Document]:
    """An empty database on the server with fail points, for the test to look into."""
    # Transactions that an earlier test has left open on purpose.
    fragile_client.admin.command("killAllSessions", [])
    database = fragile_client["fragile"]
    prepare(database)
    for name in database.list_collection_names():
        database[name].delete_many({})
    return database


@pytest.fixture
def victim_db(fragile_server: str, fragile_db: Database[Document]) -> Iterator[Database[Document]]:
    """The same database for the code under test, through the client that fail points hit."""
    with MongoClient[Document](
        fragile_server,
        tz_aware=True,
        appname=VICTIM,
        w="majority",
        journal=True,
        serverSelectionTimeoutMS=2500,
    ) as client:
        yield client[fragile_db.name]


@pytest.fixture
def fail_point(fragile_client: MongoClient[Document]) -> FailPoint:
    """Return a context in which commands of the victim fail as said.

    `times`: how many of them, None for all. See
    https://github.com/mongodb/mongo/wiki/The-%22failCommand%22-fail-point.
    """

    @contextmanager
    def fail(
        *commands: str, times: int | None = None, namespace: str | None = None, **data: Any
    ) -> Iterator[None]:
        scope: dict[str, Any] = {"failCommands": list(commands), "appName": VICTIM}
        if namespace is not None:
            scope["namespace"] = f"fragile.{namespace}"
        mode: str | Mapping[str, int] = "alwaysOn" if times is None else {"times": times}
        admin = fragile_client.admin
        admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": scope | data})
        try:
            yield
        finally:
            admin.command({"configureFailPoint": "failCommand", "mode": "off"})

    return fail

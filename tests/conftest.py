"""The environment of the tests, and the real MongoDB that they share.

One mongod per run, in a directory that goes with it: the controller of xdist starts it before its
workers, a run without xdist when the first test asks. Each worker has a database of its own. A
test without the `db` fixture has no MongoDB: its URI leads nowhere.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# Before Django's settings are loaded, which read the environment once. A developer's own settings
# must not reach the tests, least of all a real database.
for _name in list(os.environ):
    if _name.startswith(
        ("API_", "DJANGO_", "FIELD_ENCRYPTION_", "INSTAGRAM_", "METRICS_", "MONGODB_",
         "PROMETHEUS_", "TRACKING_")
    ):  # fmt: skip
        del os.environ[_name]
NOWHERE = "mongodb://127.0.0.1:1/nowhere?serverSelectionTimeoutMS=100"
os.environ.update(
    DJANGO_SETTINGS_MODULE="project.settings",
    DJANGO_SECRET_KEY="test-secret-key-of-no-worth-elsewhere",
    DJANGO_ALLOWED_HOSTS="testserver,localhost,127.0.0.1",
    INSTAGRAM_APP_SECRET="test-app-secret,test-old-secret",
    INSTAGRAM_VERIFY_TOKEN="test-verify-token",
    MONGODB_URI=NOWHERE,
)

import django
import pytest
from pymongo import MongoClient, monitoring
from pymongo.database import Database

django.setup()

from automations.accounts.accounts import finish_notes
from tests.support.shard_keys import ShardKeyListener
from tracking import service
from tracking.conf import conf
from tracking.embedded import server as embedded
from tracking.mongo import client as mongo
from tracking.mongo.indexes import apply_finding, compare_indexes, ensure_collections, list_indexes

Client = MongoClient[dict[str, Any]]
Db = Database[dict[str, Any]]
# The server of this run for xdist's workers; set by hand, a replica set to test on instead.
SERVER_VARIABLE = "TEST_MONGODB_URI"
_directory = pytest.StashKey[Path]()
# Of every client of this process, also those that tests make.
_shard_keys = ShardKeyListener()
monitoring.register(_shard_keys)


@pytest.fixture(autouse=True)
def _writes_name_their_shard_key() -> Iterator[None]:
    _shard_keys.missing.clear()
    yield
    missing, _shard_keys.missing = _shard_keys.missing, []
    assert not missing, "\n".join(sorted(set(missing)))


def pytest_configure(config: pytest.Config) -> None:
    """Start the server before the workers, in the one process that outlives them."""
    is_worker = hasattr(config, "workerinput")
    if not is_worker and getattr(config.option, "numprocesses", None):
        _start_server(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    directory = config.stash.get(_directory, None)
    if directory is not None:
        embedded.stop(directory)
        shutil.rmtree(directory, ignore_errors=True)


def _start_server(config: pytest.Config) -> None:
    if SERVER_VARIABLE not in os.environ:
        config.stash[_directory] = Path(tempfile.mkdtemp(prefix="test-mongodb-"))
        os.environ[SERVER_VARIABLE] = embedded.ensure_running(config.stash[_directory])


@pytest.fixture(scope="session")
def mongodb_server(pytestconfig: pytest.Config) -> str:
    _start_server(pytestconfig)
    return os.environ[SERVER_VARIABLE]


@pytest.fixture(scope="session")
def mongodb_client(mongodb_server: str) -> Iterator[Client]:
    with Client(mongodb_server, tz_aware=True, w="majority", journal=True) as client:
        # Tests hold documents of years ago; only a test of a TTL wants them gone.
        client.admin.command("setParameter", 1, ttlMonitorEnabled=False)
        yield client


def prepare(database: Db) -> None:
    ensure_collections(database)
    for finding in compare_indexes(database, list_indexes(conf.retention)):
        apply_finding(database, finding)


@pytest.fixture(scope="session")
def _prepared_db(mongodb_client: Client) -> Iterator[Db]:
    name = f"test_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    mongodb_client.drop_database(name)
    database = mongodb_client[name]
    prepare(database)
    yield database
    mongodb_client.drop_database(name)


@pytest.fixture
def db(
    _prepared_db: Db, mongodb_server: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Db]:
    """The worker's database with every collection and index, empty; the code under test uses it
    too, and so does a process that the test starts.
    """
    for name in _prepared_db.list_collection_names():
        _prepared_db[name].delete_many({})
    with _use_database(mongodb_server, _prepared_db.name, settings, monkeypatch):
        yield _prepared_db


@pytest.fixture
def bare_db(
    mongodb_client: Client, mongodb_server: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Db]:
    """A database without any collection, as `db` otherwise; dropped after the test."""
    name = f"test_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_bare"
    mongodb_client.drop_database(name)
    with _use_database(mongodb_server, name, settings, monkeypatch):
        yield mongodb_client[name]
    mongodb_client.drop_database(name)


@pytest.fixture
def own_mongodb_uri(tmp_path: Path) -> Iterator[str]:
    """The URI of a server that the test may kill or set fail points on."""
    yield embedded.ensure_running(tmp_path / "data", test_commands=True)
    embedded.stop(tmp_path / "data")


@contextmanager
def _use_database(
    server: str, name: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    uri = urlsplit(server)._replace(path=f"/{name}").geturl()
    settings.MONGODB_URI = uri
    monkeypatch.setenv("MONGODB_URI", uri)
    try:
        yield
    finally:
        # What a process keeps (threads, leases, caches) is tied to its client.
        finish_notes()
        service.close()
        mongo.close()

"""`serve` looks at MongoDB: refused without transactions, prepared without our collections."""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError

from automations.operations import serve
from tests.support.waiting import wait_until
from tracking.embedded import mongod
from tracking.mongo.deployment import find_refusal, read_server_facts
from tracking.mongo.indexes import COLLECTIONS


@pytest.fixture(params=[[], ["--replSet", "rs0"]], ids=["standalone", "not initiated"])
def lone_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MongoClient[Any]]:
    port = mongod.choose_port()
    with subprocess.Popen(
        [
            *(mongod.find_mongod(), "--dbpath", tmp_path, "--port", str(port)),
            *("--bind_ip", "127.0.0.1", "--nounixsocket", "--noscripting"),
            *request.param,
        ],
        stdout=subprocess.DEVNULL,
    ) as process:
        uri = f"mongodb://127.0.0.1:{port}/?directConnection=true&serverSelectionTimeoutMS=200"
        with MongoClient[dict[str, Any]](uri) as client:
            wait_until(lambda: is_up(client))
            yield client
        process.kill()


def is_up(client: MongoClient[Any]) -> bool:
    with suppress(PyMongoError):
        return bool(client.admin.command("ping"))
    return False


def test_a_server_without_transactions_is_refused_with_what_fixes_it(
    lone_server: MongoClient[Any], request: pytest.FixtureRequest
) -> None:
    refusal = find_refusal(read_server_facts(lone_server)) or ""
    assert "rs.initiate()" in refusal
    assert ("--replSet rs0" in refusal) is ("standalone" in request.node.name)


def test_collections_are_created_and_missing_indexes_named(bare_db: Database[Any]) -> None:
    warnings = serve.prepare_database()
    assert set(COLLECTIONS) <= set(bare_db.list_collection_names())
    assert list(bare_db["automation_runs"].index_information()) == ["_id_"]
    assert any("add_run_indexes" in warning for warning in warnings)
    assert any("older than 7" in warning for warning in warnings)


def test_a_prepared_database_is_not_warned_about(db: Database[dict[str, Any]]) -> None:
    assert not any("ndexes" in warning for warning in serve.prepare_database())

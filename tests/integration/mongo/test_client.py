import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mongomock
import pytest
from pymongo.database import Database

from tests.support.processes import find_mongod
from tests.support.triggers import make_trigger, now_in_milliseconds
from tracking import service
from tracking.embedded import server as embedded
from tracking.exceptions import MongoNotConfigured
from tracking.mongo import client as mongo
from tracking.runs import Outcome


@pytest.fixture(autouse=True)
def _no_client_is_left() -> Any:
    mongo.close()
    yield
    mongo.close()


def test_the_client_promises_what_the_design_rests_on(db: Database[dict[str, Any]]) -> None:
    client = mongo.get_client()
    assert client.write_concern.document == {"w": "majority", "j": True}
    assert client.codec_options.tz_aware is True
    assert client.options.server_selection_timeout == 2.5
    assert client.options.pool_options.connect_timeout == 2.0
    assert client.options.pool_options.appname == "automation-run-tracking"
    assert client.options.timeout is None
    assert mongo.get_read_database().client.options.timeout == 10
    assert mongo.get_read_database().client is not client


def test_busy_readers_keep_no_delivery_waiting(settings: Any, own_mongodb_uri: str) -> None:
    """Each of two pools has two connections; all of the readers' wait for the server."""
    settings.MONGODB_URI = f"{own_mongodb_uri}&maxPoolSize=2"
    trigger = make_trigger(arrived_at=now_in_milliseconds())
    service.record_triggers([make_trigger(user_id="first")])  # what is needed first is there
    admin = mongo.get_client().admin
    stuck = {
        "failCommands": ["find", "aggregate"], "appName": "automation-run-tracking-reads",
        "blockConnection": True, "blockTimeMS": 4000,
    }  # fmt: skip
    admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=stuck)
    reads = [["a1"]] * 3
    try:
        with ThreadPoolExecutor(3) as pool:
            readers = [pool.submit(service.list_recent_hours, one) for one in reads]
            time.sleep(0.3)
            started = time.monotonic()
            assert service.record_triggers([trigger]) == [Outcome.STORED]
            assert service.wait_for_outcomes([trigger]) == [Outcome.COUNTED]
            assert time.monotonic() - started < 2
            assert not any(reader.done() for reader in readers)
            admin.command("configureFailPoint", "failCommand", mode="off")
    finally:
        admin.command("configureFailPoint", "failCommand", mode="off")
        service.close()


def test_a_uri_may_tune_but_not_weaken(settings: Any) -> None:
    settings.MONGODB_URI = "mongodb://127.0.0.1:1/runs?maxpoolsize=7&w=1&journal=false"
    client = mongo.get_client()
    assert client.options.pool_options.max_pool_size == 7
    assert client.write_concern.document == {"w": "majority", "j": True}


def test_one_client_serves_every_thread(db: Database[dict[str, Any]]) -> None:
    with ThreadPoolExecutor(5) as pool:
        clients = list(pool.map(lambda _: mongo.get_client(), range(5)))
    assert len(set(map(id, clients))) == 1


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("mongodb://127.0.0.1:1", "instagram_automations"),
        ("mongodb://127.0.0.1:1/?replicaSet=rs0", "instagram_automations"),
        ("mongodb://127.0.0.1:1/other?replicaSet=rs0", "other"),
    ],
)
def test_the_uri_names_the_database(settings: Any, uri: str, name: str) -> None:
    settings.MONGODB_URI = uri
    assert mongo.get_database().name == name


@pytest.mark.parametrize(
    "uri",
    ["mongodb://u:hunter2@h:port", "mongodb://u:hunter2@h:1/?replicaSet", "mongodb://u:hunter2@"],
)
def test_a_uri_that_cannot_be_read_is_one_sentence(settings: Any, uri: str) -> None:
    settings.MONGODB_URI = uri
    with pytest.raises(MongoNotConfigured, match="MONGODB_URI cannot be used") as caught:
        mongo.get_client()
    assert "hunter2" not in str(caught.value)


def test_without_a_uri_the_embedded_server_is_used(settings: Any, tmp_path: Path) -> None:
    settings.MONGODB_URI = ""
    settings.DATA_DIR = tmp_path
    try:
        assert mongo.get_database().name == "instagram_automations"
        mongo.get_database()["runs"].insert_one({})
        assert find_mongod(tmp_path)
    finally:
        mongo.close()
        embedded.stop(tmp_path)


def test_a_forked_child_makes_its_own_client(db: Database[dict[str, Any]]) -> None:
    parents = mongo.get_client()
    mongo.get_database()["marks"].insert_one({"_id": "parent"})
    child = os.fork()
    if child == 0:
        status = 1
        try:
            mongo.get_database()["marks"].insert_one({"_id": "child"})
            status = 0 if mongo.get_client() is not parents else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert mongo.get_client() is parents
    assert {mark["_id"] for mark in db["marks"].find()} == {"parent", "child"}


def test_mongomock_stands_in_where_nothing_is_transactional() -> None:
    """mongomock knows databases and plain reads and writes; it has no transactions or sessions."""
    database = mongomock.MongoClient().get_database("instagram_automations")
    database["automations"].insert_one({"_id": "a", "totalRuns": 1})
    database["automations"].update_one({"_id": "a"}, {"$inc": {"totalRuns": 1}})
    assert database["automations"].find_one() == {"_id": "a", "totalRuns": 2}
    with pytest.raises(NotImplementedError):
        mongomock.MongoClient().start_session()

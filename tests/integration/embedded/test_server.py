import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from tests.support.processes import find_mongod, list_alive
from tests.support.waiting import wait_until
from tracking.embedded import mongod
from tracking.embedded import server as embedded
from tracking.exceptions import TrackingUnavailable

USER = """
import sys
from pathlib import Path
from tracking.embedded import server as embedded
print(embedded.ensure_running(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""

FORKING_USER = """
import os, sys
from pathlib import Path
from tracking.embedded import server as embedded
data_dir = Path(sys.argv[1])
embedded.ensure_running(data_dir)
child = os.fork()
uri = embedded.ensure_running(data_dir)
if child == 0:
    print(os.getpid(), uri, flush=True)
sys.stdin.read()
"""


class User:
    """A process that uses the server of a directory until its stdin is closed."""

    def __init__(self, data_dir: Path, script: str = USER) -> None:
        self.process: Any = subprocess.Popen(
            [sys.executable, "-c", script, str(data_dir)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3],
        )  # fmt: skip

    def read_line(self) -> str:
        return str(self.process.stdout.readline().strip())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def leave(self) -> int:
        self.process.stdin.close()
        return int(self.process.wait(20))

    def close(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                pipe.close()


StartUser = Callable[..., User]


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"
    embedded.stop(tmp_path / "data")


@pytest.fixture
def start_user(data_dir: Path) -> Iterator[StartUser]:
    users: list[User] = []

    def start(script: str = USER) -> User:
        users.append(User(data_dir, script))
        return users[-1]

    yield start
    for user in users:
        user.close()


def get_server(data_dir: Path) -> int:
    pid = find_mongod(data_dir)
    assert pid is not None
    return pid


def connect(uri: str) -> MongoClient[dict[str, Any]]:
    return MongoClient(uri, w="majority", journal=True, serverSelectionTimeoutMS=20_000)


def count_notes(uri: str) -> int:
    with connect(uri) as client:
        return client["kept"]["notes"].count_documents({})


def add_note(uri: str) -> None:
    with connect(uri) as client:
        client["kept"]["notes"].insert_one({})


def test_a_killed_owners_server_is_started_again(data_dir: Path, start_user: StartUser) -> None:
    owner = start_user()
    uri = owner.read_line()
    assert embedded.ensure_running(data_dir) == uri  # attached
    add_note(uri)
    server = get_server(data_dir)
    owner.kill()
    assert embedded.ensure_running(data_dir) == uri  # owned
    assert not list_alive([server])
    assert count_notes(uri) == 1
    assert start_user().read_line() == uri


def test_no_server_survives_its_killed_parent(data_dir: Path, start_user: StartUser) -> None:
    user = start_user()
    user.read_line()
    server = get_server(data_dir)
    user.kill()
    assert wait_until(lambda: not list_alive([server])) < 1.0


def test_a_kill_during_the_start_leaves_no_server(data_dir: Path, start_user: StartUser) -> None:
    user = start_user()
    wait_until(lambda: find_mongod(data_dir))
    user.kill()
    wait_until(lambda: find_mongod(data_dir) is None, seconds=1.0)
    assert start_user().read_line().startswith("mongodb://")


def test_a_server_ends_and_keeps_its_port(data_dir: Path, start_user: StartUser) -> None:
    user = start_user()
    uri = user.read_line()
    add_note(uri)
    assert user.leave() == 0
    assert find_mongod(data_dir) is None
    assert embedded.ensure_running(data_dir) == uri
    assert count_notes(uri) == 1


def test_a_server_that_dies_is_started_again_by_the_next_call(data_dir: Path) -> None:
    uri = embedded.ensure_running(data_dir)
    add_note(uri)
    server = get_server(data_dir)
    os.kill(server, signal.SIGKILL)
    old = {server, None}
    wait_until(lambda: embedded.ensure_running(data_dir) and find_mongod(data_dir) not in old)
    assert embedded.ensure_running(data_dir) == uri
    assert count_notes(uri) == 1


def get_port(uri: str) -> int:
    return urlsplit(uri).port or 0


def test_the_next_owner_on_another_port_tells_its_own_process(
    data_dir: Path, start_user: StartUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = start_user()
    uri = owner.read_line()
    assert embedded.ensure_running(data_dir) == uri
    add_note(uri)
    monkeypatch.setattr(mongod, "is_port_free", lambda port: port != get_port(uri))
    owner.kill()
    moved = embedded.ensure_running(data_dir)
    assert moved != uri
    assert count_notes(moved) == 1
    assert start_user().read_line() == moved


def test_a_forked_child_keeps_no_lock(data_dir: Path, start_user: StartUser) -> None:
    parent = start_user(FORKING_USER)
    child, uri = parent.read_line().split()
    try:
        add_note(uri)
        server = get_server(data_dir)
        parent.kill()
        assert embedded.ensure_running(data_dir) == uri
        assert count_notes(uri) == 1
        assert find_mongod(data_dir) != server
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_another_mongod_on_the_directory_is_named(data_dir: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(embedded, "_DEATH_SECONDS", 0.1)
    (data_dir / "db").mkdir(parents=True)
    with (data_dir / "db" / "mongod.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TrackingUnavailable, match="Another mongod runs on"):
            embedded.ensure_running(data_dir)
    assert embedded.ensure_running(data_dir)


@pytest.mark.parametrize("threads", [1, 8])
def test_threads_start_one_server_that_outlives_them(data_dir: Path, threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        uris = list(pool.map(lambda _: embedded.ensure_running(data_dir), range(threads)))
    assert len(set(uris)) == 1
    server = get_server(data_dir)
    add_note(uris[0])
    assert find_mongod(data_dir) == server


def test_the_server_has_the_safe_flags_and_no_test_commands(data_dir: Path) -> None:
    with connect(embedded.ensure_running(data_dir)) as client:
        options = client.admin.command("getCmdLineOpts")["parsed"]
        assert options["net"]["bindIp"] == "127.0.0.1"
        assert options["net"]["compression"]["compressors"] == "snappy,zstd"
        assert options["security"]["javascriptEnabled"] is False
        assert options["setParameter"]["transactionLifetimeLimitSeconds"] == "5"
        assert "enableTestCommands" not in options["setParameter"]
        with pytest.raises(OperationFailure):
            client.admin.command("configureFailPoint", "failCommand", mode="off")


def test_a_server_that_cannot_start_says_where(data_dir: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(mongod, "find_mongod", lambda: Path("/bin/false"))
    with pytest.raises(TrackingUnavailable, match=r"mongod\.log.*MONGODB_URI"):
        embedded.ensure_running(data_dir)
    monkeypatch.undo()
    assert embedded.ensure_running(data_dir).startswith("mongodb://")


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrackingUnavailable, match="file"):
        embedded.ensure_running(tmp_path / "file" / "data")

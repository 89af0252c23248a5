import os
import re
import secrets
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import get_commands

from project import environment

ROOT = Path(__file__).parents[3]
read_switch = partial(environment.read_bool, "X", default=True)
read_list = partial(environment.read_list, "X")
read_days = partial(environment.read_int, "X", default=90, minimum=8, unit="days")
read_mode = partial(environment.read_choice, "X", choices=("off", "shadow"))
read_uri = partial(environment.read_url, "X", schemes=("mongodb", "mongodb+srv"))


@pytest.mark.parametrize(
    ("read", "raw", "value"),
    [
        *[(read_switch, raw, True) for raw in ("1", "TRUE", " on ", "")],
        *[(read_switch, raw, False) for raw in ("0", "no")],
        *[(read_list, " a, ,b,", ("a", "b")), (read_list, "", ())],
        *[(read_days, "30", 30), (read_days, "", 90)],
        (read_mode, "shadow", "shadow"),
    ],
)
def test_a_value_is_read(monkeypatch: pytest.MonkeyPatch, read: Any, raw: str, value: Any) -> None:
    monkeypatch.setenv("X", raw)
    assert read() == value


@pytest.mark.parametrize(
    ("read", "raws", "said"),
    [
        (read_switch, ["maybe"], "X is 'maybe'; set it to one of 1, true"),
        (read_days, ["7", "eight", "8.5", "-1", "1e3"], "X is .* whole number of days, 8 or more"),
        (read_mode, ["yes"], "X is 'yes'; set it to one of off, shadow"),
        (read_uri, ["host:27017", "mongodb://", "http://user:hunter2@host"], "X is not a URL"),
    ],
)
def test_another_kind_is_refused(monkeypatch: Any, read: Any, raws: list[str], said: str) -> None:
    for raw in raws:
        monkeypatch.setenv("X", raw)
        with pytest.raises(ImproperlyConfigured, match=said) as caught:
            read()
        assert "hunter2" not in str(caught.value)


def run_manage(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=ROOT, env=clean | variables,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_commands_need_no_secret() -> None:
    result = run_manage("migrate")
    assert (result.returncode, result.stderr) == (0, "")
    for name in ("add_run_fields", "add_run_indexes"):
        assert f"python manage.py {name}\n" in result.stdout
        assert name in get_commands()


def test_a_deployment_without_secrets_fails_its_check() -> None:
    result = run_manage("check", "--deploy")
    assert result.returncode == 1
    assert "(automations.E006) DJANGO_SECRET_KEY" in result.stderr
    assert "(automations.E007) INSTAGRAM_APP_SECRET" in result.stderr


def test_a_deployment_by_the_example_is_clean() -> None:
    example = (ROOT / ".env.example").read_text()
    variables = dict(re.findall(r"^([A-Z_]+)=(.*)$", example, re.MULTILINE))
    variables |= {"DJANGO_SECRET_KEY": secrets.token_urlsafe(50), "INSTAGRAM_APP_SECRET": "secret"}
    result = run_manage("check", "--deploy", "--fail-level", "WARNING", **variables)
    assert (result.returncode, result.stderr) == (0, "")


def test_earlier_secret_keys_are_read() -> None:
    code = "from django.conf import settings; print(settings.SECRET_KEY_FALLBACKS)"
    variables = {"DJANGO_SECRET_KEY": "new", "DJANGO_SECRET_KEY_FALLBACKS": "old, older"}
    result = run_manage("shell", "--no-imports", "-v", "0", "-c", code, **variables)
    assert (result.returncode, result.stdout) == (0, "['old', 'older']\n")


def test_a_bad_variable_is_one_clear_sentence() -> None:
    result = run_manage("migrate", TRACKING_RETENTION_DAYS="3")
    assert result.returncode != 0
    last_line = result.stderr.strip().splitlines()[-1]
    assert "TRACKING_RETENTION_DAYS is '3'; set it to a whole number of days, 8 or" in last_line

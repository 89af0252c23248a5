"""Every variable is typed; a bad value names the variable and the fix, and shows no secret."""

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from project import environment

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [("1", True), ("TRUE", True), (" on ", True), ("0", False), ("no", False), ("", True)],
)
def test_a_switch_is_read(monkeypatch: pytest.MonkeyPatch, raw: str, expected: bool) -> None:
    monkeypatch.setenv("X", raw)
    assert environment.read_bool("X", default=True) is expected


def test_a_word_that_is_no_switch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X", "maybe")
    with pytest.raises(ImproperlyConfigured, match="X is 'maybe'; set it to one of 1, true"):
        environment.read_bool("X", default=True)


def test_a_list_loses_its_empty_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X", " a, ,b,")
    assert environment.read_list("X") == ("a", "b")
    assert environment.read_list("UNSET_VARIABLE") == ()


@pytest.mark.parametrize("raw", ["7", "eight", "8.5", "-1", "1e3"])
def test_a_number_below_its_minimum_is_refused(monkeypatch: pytest.MonkeyPatch, raw: str) -> None:
    monkeypatch.setenv("X", raw)
    with pytest.raises(ImproperlyConfigured, match=r"X is .* whole number of days, 8 or more"):
        environment.read_int("X", default=90, minimum=8, unit="days")


def test_a_number_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X", "30")
    assert environment.read_int("X", default=90, minimum=8, unit="days") == 30
    assert environment.read_int("UNSET_VARIABLE", default=90, minimum=8, unit="days") == 90


def test_a_word_outside_the_choices_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X", "shadow")
    assert environment.read_choice("X", choices=("off", "shadow")) == "shadow"
    monkeypatch.setenv("X", "yes")
    with pytest.raises(ImproperlyConfigured, match="X is 'yes'; set it to one of off, shadow"):
        environment.read_choice("X", choices=("off", "shadow"))


@pytest.mark.parametrize("raw", ["host:27017", "mongodb://", "http://user:hunter2@host"])
def test_a_url_of_another_kind_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, raw: str
) -> None:
    monkeypatch.setenv("X", raw)
    with pytest.raises(ImproperlyConfigured, match="X is not a URL") as caught:
        environment.read_url("X", schemes=("mongodb", "mongodb+srv"))
    assert "hunter2" not in str(caught.value)


def test_the_example_names_every_variable_that_the_settings_read() -> None:
    settings = (ROOT / "project/settings.py").read_text()
    example = (ROOT / ".env.example").read_text()
    read = set(re.findall(r'\bread_\w+\(\s*"([A-Z_]+)"', settings))
    assert read == set(re.findall(r"^([A-Z_]+)=", example, re.MULTILINE))


def run_manage(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=clean | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_commands_need_no_secret() -> None:
    result = run_manage("migrate")
    assert (result.returncode, result.stderr) == (0, "")
    assert "add_run_indexes" in result.stdout


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


def test_a_silenced_check_has_its_reason_beside_it() -> None:
    settings = (ROOT / "project/settings.py").read_text()
    [block] = re.findall(
        r"^SILENCED_SYSTEM_CHECKS = \[\n(.*?)^\]", settings, re.MULTILINE | re.DOTALL
    )
    lines = block.splitlines()
    assert lines
    assert all(re.fullmatch(r' {4}"\w+\.W\d+",  # \w.{10,}', line) for line in lines)


def test_a_bad_variable_is_one_clear_sentence() -> None:
    result = run_manage("migrate", TRACKING_RETENTION_DAYS="3")
    assert result.returncode != 0
    last_line = result.stderr.strip().splitlines()[-1]
    assert "TRACKING_RETENTION_DAYS is '3'; set it to a whole number of days, 8 or" in last_line

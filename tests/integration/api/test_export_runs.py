"""`export_runs`: what is exported equals the database, and a file is there once it is whole."""

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from django.core.management import CommandError

from automations.api.runs import CSV_COLUMNS
from tests.support.api_client import Db, build_run
from tests.support.commands import run_command
from tracking.clock import format_time
from tracking.queries import run_store


def run(*arguments: str) -> list[str]:
    return run_command("export_runs", "--workspace", "ws1", *arguments)


@pytest.fixture
def stored(db: Db) -> list[dict[str, Any]]:
    """Runs of two automations, newest first, and one of another workspace."""
    runs = [
        build_run(automation, age=timedelta(hours=number), user_id=f"p{number}")
        for number, automation in enumerate(["a1", "a2"] * 20, start=1)
    ]
    other = build_run("a1", age=timedelta(hours=1)) | {"workspaceId": "ws2"}
    db["automation_runs"].insert_many([*runs, other])
    return list(db["automation_runs"].find({"workspaceId": "ws1"}).sort("createdAt", -1))


def test_csv_and_json_lines_equal_the_database(
    stored: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_store, "_PAGE_OF_ALL", 7)
    rows = list(csv.DictReader(run()))
    lines = [json.loads(line) for line in run("--json")]
    expected = [(str(one["_id"]), one["userId"], format_time(one["createdAt"])) for one in stored]
    for found in (rows, lines):
        assert [(one["_id"], one["userId"], one["createdAt"]) for one in found] == expected


def test_filters_are_those_of_the_api(stored: list[dict[str, Any]]) -> None:
    since = (datetime.now(UTC) - timedelta(hours=10, minutes=30)).isoformat()
    for arguments, number in (
        (["--automation", "a2"], 20),
        (["--person", "p3"], 1),
        (["--from", since], 10),
        (["--to", since, "--automation", "a1"], 15),
        (["--type", "opening_dm"], 40),
        (["--outcome", "main_dm.sent"], 0),
        (["--post", "m1"], 0),
        (["--from", "2020-01-01", "--to", "2020-02-01", "--zone", "Asia/Kolkata"], 0),
    ):
        assert len(run("--json", *arguments)) == number, arguments


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--type", "poll"], "triggerType: .*not a valid choice"),
        (["--zone", "Asia/Kalkutta"], "zone: .*Did you mean"),
        (["--from", "monday"], "from: Write a date"),
        (["--output", "/nowhere/runs.csv"], "cannot be written: No such file"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(db: Db, arguments: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        run(*arguments)


def test_a_file_is_whole_or_not_there(
    stored: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "runs.csv"
    run("--output", str(path))
    heading, *rows = csv.reader(path.read_text().splitlines())
    assert (heading, len(rows)) == (list(CSV_COLUMNS), 40)
    error = OSError(28, "No space left on device")
    monkeypatch.setattr("automations.api.runs.build_row", Mock(side_effect=error))
    path.unlink()
    with pytest.raises(CommandError, match="No space left"):
        run("--output", str(path))
    assert list(tmp_path.iterdir()) == []

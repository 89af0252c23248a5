"""`add_run_indexes`: what it creates, what it reports, and that it drops nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError
from pymongo.database import Database

from tests.integration.maintenance.test_add_run_fields import run_command as run_any
from tracking.mongo.indexes import find_missing_indexes, list_indexes

Document = dict[str, Any]
NAMES = {
    "automationId_createdAt",
    "automationId_userId_createdAt",
    "workspaceId_createdAt",
    "createdAt_ttl",
}


def run_command(*args: str) -> list[str]:
    return run_any(*args, name="add_run_indexes")


def test_creates_the_named_indexes_and_the_ttl(bare_db: Database[Document]) -> None:
    lines = run_command()
    indexes = {one["name"]: one for one in bare_db["automation_runs"].list_indexes()}
    assert set(indexes) == NAMES | {"_id_"}
    assert indexes["createdAt_ttl"]["expireAfterSeconds"] == 90 * 86400
    assert "created: automation_runs.createdAt_ttl (90 days)" in lines
    assert find_missing_indexes(bare_db, timedelta(days=90)) == []


def test_a_second_run_finds_them_present(bare_db: Database[Document]) -> None:
    run_command()
    lines = run_command()
    assert f"indexes present: {len(list_indexes(timedelta(days=90)))}" in lines
    assert lines[-1] == "indexes created or changed: 0"


def test_a_ttl_that_differs_is_changed(bare_db: Database[Document], settings: Any) -> None:
    bare_db["automation_runs"].create_index(
        "createdAt", name="createdAt_ttl", expireAfterSeconds=86400
    )
    lines = run_command()
    assert "changed TTL of: automation_runs.createdAt_ttl (86400 s -> 7776000 s)" in lines
    [ttl] = [i for i in bare_db["automation_runs"].list_indexes() if i["name"] == "createdAt_ttl"]
    assert ttl["expireAfterSeconds"] == 90 * 86400


def test_a_plain_index_under_the_ttl_name_becomes_one(bare_db: Database[Document]) -> None:
    bare_db["automation_runs"].create_index("createdAt", name="createdAt_ttl")
    run_command()
    [ttl] = [i for i in bare_db["automation_runs"].list_indexes() if i["name"] == "createdAt_ttl"]
    assert ttl["expireAfterSeconds"] == 90 * 86400


@pytest.mark.parametrize("name", ["workspaceId_createdAt", "something_else"])
def test_a_key_that_differs_is_reported_and_kept(bare_db: Database[Document], name: str) -> None:
    """Other keys under our name, or our keys under another name."""
    keys = {
        "workspaceId_createdAt": [("workspaceId", 1)],
        "something_else": [("workspaceId", 1), ("createdAt", -1)],
    }[name]
    bare_db["automation_runs"].create_index(keys, name=name)
    with pytest.raises(CommandError, match=f"dropIndex\\('{name}'\\)"):
        run_command()
    indexes = {one["name"]: one for one in bare_db["automation_runs"].list_indexes()}
    assert list(indexes[name]["key"].items()) == keys
    assert "automationId_createdAt" in indexes  # the others are there all the same


def test_dry_run_creates_nothing_and_counts_what_the_ttl_deletes(
    bare_db: Database[Document],
) -> None:
    now = datetime.now(UTC)
    bare_db["automation_runs"].insert_many([
        {"createdAt": now - timedelta(days=91)}, {"createdAt": now - timedelta(days=89)},
    ])  # fmt: skip
    lines = run_command("--dry-run")
    assert "  the TTL would delete 1 documents of automation_runs" in lines
    assert len(list(bare_db["automation_runs"].list_indexes())) == 1


def test_a_ttl_that_would_delete_uncounted_runs_waits_for_add_run_fields(
    bare_db: Database[Document],
) -> None:
    bare_db["automations"].insert_one({"_id": "a1", "totalRuns": 0})
    old = datetime.now(UTC) - timedelta(days=91)
    bare_db["automation_runs"].insert_one({"automationId": "a1", "userId": "p", "createdAt": old})
    with pytest.raises(CommandError, match="add_run_fields"):
        run_command()
    assert "createdAt_ttl" not in bare_db["automation_runs"].index_information()
    assert "automationId_createdAt" in bare_db["automation_runs"].index_information()
    run_any(name="add_run_fields")
    run_command()
    assert "createdAt_ttl" in bare_db["automation_runs"].index_information()
    automation = bare_db["automations"].find_one({"_id": "a1"})
    assert automation is not None
    assert automation["totalRuns"] == 1


def test_keep_forever_has_no_ttl_and_says_that_one_is_there(bare_db: Database[Document]) -> None:
    run_command("--keep-forever")
    assert "createdAt_ttl" not in bare_db["automation_runs"].index_information()
    run_command()
    lines = run_command("--keep-forever")
    assert any("dropIndex('createdAt_ttl')" in line for line in lines)
    assert "createdAt_ttl" in bare_db["automation_runs"].index_information()

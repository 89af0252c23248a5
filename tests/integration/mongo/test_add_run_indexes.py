from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError

from tests.integration.conftest import Db
from tests.support.commands import run_command
from tracking.mongo.indexes import find_missing_indexes

NAMES = {
    "automationId_createdAt", "automationId_userId_createdAt", "workspaceId_createdAt",
    "createdAt_ttl",
}  # fmt: skip


def add_run_indexes(*arguments: str) -> list[str]:
    return run_command("add_run_indexes", *arguments)


def test_creates_the_named_indexes_and_the_ttl(bare_db: Db) -> None:
    lines = add_run_indexes()
    indexes = {one["name"]: one for one in bare_db["automation_runs"].list_indexes()}
    assert set(indexes) == NAMES | {"_id_"}
    assert indexes["createdAt_ttl"]["expireAfterSeconds"] == 90 * 86400
    assert "created: automation_runs.createdAt_ttl (90 days)" in lines
    assert find_missing_indexes(bare_db, timedelta(days=90)) == []


@pytest.mark.parametrize("before", [{"expireAfterSeconds": 86400}, {}])
def test_a_ttl_that_differs_or_is_none_is_changed(bare_db: Db, before: dict[str, int]) -> None:
    bare_db["automation_runs"].create_index("createdAt", name="createdAt_ttl", **before)
    lines = add_run_indexes()
    was = before.get("expireAfterSeconds")
    assert f"changed TTL of: automation_runs.createdAt_ttl ({was} s -> 7776000 s)" in lines
    [ttl] = [i for i in bare_db["automation_runs"].list_indexes() if i["name"] == "createdAt_ttl"]
    assert ttl["expireAfterSeconds"] == 90 * 86400


@pytest.mark.parametrize("name", ["workspaceId_createdAt", "something_else"])
def test_a_key_that_differs_is_reported_and_kept(bare_db: Db, name: str) -> None:
    """Other keys under our name, or our keys under another name."""
    keys = {
        "workspaceId_createdAt": [("workspaceId", 1)],
        "something_else": [("workspaceId", 1), ("createdAt", -1)],
    }[name]
    bare_db["automation_runs"].create_index(keys, name=name)
    with pytest.raises(CommandError, match=f"dropIndex\\('{name}'\\)"):
        add_run_indexes()
    indexes = {one["name"]: one for one in bare_db["automation_runs"].list_indexes()}
    assert list(indexes[name]["key"].items()) == keys
    assert "automationId_createdAt" in indexes  # the others are there all the same


def test_dry_run_creates_nothing_and_counts_what_the_ttl_deletes(bare_db: Db) -> None:
    now = datetime.now(UTC)
    bare_db["automation_runs"].insert_many([
        {"createdAt": now - timedelta(days=91)}, {"createdAt": now - timedelta(days=89)},
    ])  # fmt: skip
    lines = add_run_indexes("--dry-run")
    assert "  the TTL would delete 1 documents of automation_runs" in lines
    assert len(list(bare_db["automation_runs"].list_indexes())) == 1


def test_a_ttl_that_would_delete_uncounted_runs_waits_for_add_run_fields(bare_db: Db) -> None:
    bare_db["automations"].insert_one({"_id": "a1", "totalRuns": 0})
    old = datetime.now(UTC) - timedelta(days=91)
    bare_db["automation_runs"].insert_one({"automationId": "a1", "userId": "p", "createdAt": old})
    with pytest.raises(CommandError, match="add_run_fields"):
        add_run_indexes()
    assert "createdAt_ttl" not in bare_db["automation_runs"].index_information()
    assert "automationId_createdAt" in bare_db["automation_runs"].index_information()
    run_command("add_run_fields")
    add_run_indexes()
    assert "createdAt_ttl" in bare_db["automation_runs"].index_information()
    assert (bare_db["automations"].find_one({"_id": "a1"}) or {})["totalRuns"] == 1


def test_keep_forever_has_no_ttl_and_says_that_one_is_there(bare_db: Db) -> None:
    add_run_indexes("--keep-forever")
    assert "createdAt_ttl" not in bare_db["automation_runs"].index_information()
    add_run_indexes()
    lines = add_run_indexes("--keep-forever")
    assert any("dropIndex('createdAt_ttl')" in line for line in lines)
    assert "createdAt_ttl" in bare_db["automation_runs"].index_information()

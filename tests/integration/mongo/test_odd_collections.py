"""Kinds, validators and indexes that other programs left are named, and stop nothing else."""

import json
import re
from typing import Any

import pytest
from django.core.management import CommandError
from pymongo.database import Database

from automations.operations import serve
from automations.rules.cache import get_rules_cache
from tests.support.commands import run_command
from tests.support.uncounted import count_everything
from tests.support.verification_cases import verify
from tests.support.webhook_cases import build_automation, build_body, build_comment, post_body
from tracking.counting.partitions import list_stuck
from tracking.mongo.indexes import COLLECTIONS, list_obstacles

Db = Database[dict[str, Any]]
STRICT = {"$jsonSchema": {"properties": {"_id": {}, "name": {}}, "additionalProperties": False}}
LOOSE = {"$jsonSchema": {"properties": {"userId": {"bsonType": "string"}}}}
TIME_SERIES = {"timeField": "createdAt", "metaField": "automationId"}
# How each is made, and why nothing is counted with it.
ODD: dict[str, tuple[dict[str, Any], str]] = {
    "view": ({"viewOn": "elsewhere"}, "a view, time-series or capped collection"),
    "timeseries": ({"timeseries": TIME_SERIES}, "a view, time-series or capped collection"),
    "capped": ({"capped": True, "size": 100_000}, ""),  # no snapshots, no automation to blame
    "validator": ({"validator": STRICT}, "a validator of the collection"),
    "unique": ({}, "a unique index on (automationId)"),
}
GROUPS = [("automation_triggers",), ("accounts", "automation_contacts", "webhook_dead_letters")]


@pytest.mark.parametrize("names", GROUPS, ids=lambda names: names[-1])
@pytest.mark.parametrize("odd", ODD)
def test_each_is_named_in_words_and_deliveries_go_on(
    bare_db: Db, odd: str, names: tuple[str, ...]
) -> None:
    options, reason = ODD[odd]
    for name in names:
        bare_db.create_collection(name, **options)
        if odd == "unique":
            bare_db[name].create_index("automationId", unique=True, name=odd)
            bare_db[name].insert_many([{"automationId": "a1"}, {}])
    bare_db["automations"].insert_one(build_automation("a1"))
    said = serve.prepare_database()
    with pytest.raises(CommandError) as refused:
        run_command("add_run_indexes")
    shown = verify("--only", "indexes", "plans")[1]["what refuses our documents"]["figure"]
    for name in names:
        for text in (" ".join(said), str(refused.value), shown):
            assert re.search(rf"{name}\b[^.]*[. ]{odd}", text)
    assert "workspaceId_createdAt" in bare_db["automations"].index_information()
    body = json.loads(build_body(build_comment(1), build_comment(2)))
    body["entry"][0]["changes"] += [{"field": "comments", "value": one} for one in ("bad", "worse")]
    get_rules_cache().refresh()
    assert post_body(json.dumps(body).encode()).status_code == 200
    if len(names) > 1:
        assert bare_db["automation_triggers"].count_documents({}) == 2
    if len(names) > 1 and reason:
        count_everything(bare_db)
        assert [one.reason[: len(reason)] for one in list_stuck(bare_db)] == [reason]


def test_nothing_waits_for_a_snapshot_of_a_capped_collection(bare_db: Db) -> None:
    bare_db.create_collection("automation_runs", capped=True, size=100_000)
    with pytest.raises(CommandError, match="automation_runs is of the kind capped"):
        run_command("add_run_fields")


def test_a_validator_that_takes_ours_is_no_obstacle(bare_db: Db) -> None:
    for name in COLLECTIONS:
        bare_db.create_collection(name, validator=LOOSE)
    assert set(COLLECTIONS) - list_obstacles(bare_db).keys() == {"automations", "automation_runs"}
    for name in COLLECTIONS:
        bare_db.command("collMod", name, validationAction="warn", validator=STRICT)
    assert list_obstacles(bare_db) == {}

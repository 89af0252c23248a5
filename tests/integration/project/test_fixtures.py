"""The fixtures keep what they promise: every integration test rests on them."""

from typing import Any

import pytest
from pymongo.database import Database

from tracking.mongo import client as mongo


@pytest.mark.parametrize("_round", [1, 2])
def test_every_test_starts_empty_with_the_indexes_in_place(
    db: Database[dict[str, Any]], _round: int
) -> None:
    assert db["automation_runs"].count_documents({}) == 0
    assert "automationId_createdAt" in db["automation_runs"].index_information()
    db["automation_runs"].insert_one({"automationId": "a"})


def test_the_code_under_test_uses_the_same_database(db: Database[dict[str, Any]]) -> None:
    db["automations"].insert_one({"_id": "a"})
    assert mongo.get_database().name == db.name
    assert mongo.get_database()["automations"].find_one() == {"_id": "a"}


def test_a_bare_database_has_no_collection(bare_db: Database[dict[str, Any]]) -> None:
    assert bare_db.list_collection_names() == []
    assert mongo.get_database().name == bare_db.name

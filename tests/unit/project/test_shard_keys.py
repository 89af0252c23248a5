"""The watch over shard keys: it sees a write without its key, and whose it is."""

import sys
from typing import Any

import pytest

from tests.support.shard_keys import SHARD_KEYS, ShardKeyListener, find_caller, list_without_key
from tracking.maintenance import contacts


def test_a_query_without_its_key_is_listed() -> None:
    queries: list[dict[str, Any]] = [{"_id": 1}, {"_id": 1, "accountId": "a"}]
    assert list_without_key(queries, "accountId") == [{"_id": 1}]


def test_what_a_test_writes_itself_is_not_judged() -> None:
    assert find_caller(sys._getframe(0)) is None


def test_the_collections_are_those_of_the_design() -> None:
    assert SHARD_KEYS.keys() == {
        "automation_runs", "automation_contacts", "automation_run_stats", "automation_triggers",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["update", "delete", "findAndModify"])
def test_a_write_of_the_product_is_named_by_its_line(name: str) -> None:
    command = {
        name: "automation_runs", "updates": [{"q": {"_id": 1}}], "deletes": [{"q": {"_id": 1}}],
        "query": {"_id": 1},
    }  # fmt: skip

    class Event:
        command_name = name

    Event.command = command  # type: ignore[attr-defined]
    listener = ShardKeyListener()
    # As if a module of the product had sent it.
    send = compile("listener.started(event)", contacts.__file__, "exec")
    exec(send, {"listener": listener, "event": Event})
    [sentence] = listener.missing
    assert sentence.startswith("tracking/maintenance/contacts.py:1: ")
    assert "automationId" in sentence

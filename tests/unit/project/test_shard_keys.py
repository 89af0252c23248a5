"""The watch over shard keys: it sees a write without its key, and whose it is."""

from types import SimpleNamespace

import pytest

from tests.support.shard_keys import ShardKeyListener
from tracking.maintenance import contacts


@pytest.mark.parametrize("name", ["update", "delete", "findAndModify"])
def test_a_write_of_the_product_is_named_by_its_line(name: str) -> None:
    command = {
        name: "automation_runs", "updates": [{"q": {"_id": 1}}], "deletes": [{"q": {"_id": 1}}],
        "query": {"_id": 1},
    }  # fmt: skip

    event = SimpleNamespace(command_name=name, command=command)
    listener = ShardKeyListener()
    # As if a module of the product had sent it.
    send = compile("listener.started(event)", contacts.__file__, "exec")
    exec(send, {"listener": listener, "event": event})
    [sentence] = listener.missing
    assert sentence.startswith("tracking/maintenance/contacts.py:1: ")
    assert "automationId" in sentence

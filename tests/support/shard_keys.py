"""Every update and delete on a sharded collection names its shard key (design.md section 10).

No `mongos` is tried here: instead every command that the product sends in the tests' own process
is looked at. What a test writes itself is not; the caller's frame tells the two apart.
"""

import sys
from pathlib import Path
from types import FrameType

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

ROOT = Path(__file__).resolve().parents[2]
SHARD_KEYS = {
    "automation_runs": "automationId",
    "automation_contacts": "automationId",
    "automation_run_stats": "automationId",
    "automation_triggers": "accountId",
}
# The queries in a command, by its name.
_QUERIES = {
    "update": lambda command: [one["q"] for one in command.get("updates", ())],
    "delete": lambda command: [one["q"] for one in command.get("deletes", ())],
    "findAndModify": lambda command: [command["query"]],
}


class ShardKeyListener(CommandListener):
    """Notes writes without their shard key as sentences in `missing`."""

    def __init__(self) -> None:
        self.missing: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        name = event.command_name
        if name not in _QUERIES:
            return
        collection = event.command[name]
        key = SHARD_KEYS.get(collection)
        if key is None:
            return
        for query in _QUERIES[name](event.command):
            place = None if key in query else find_caller(sys._getframe(1))
            if place is not None:
                self.missing.append(f"{place}: {name} {collection} by {list(query)}, not {key}")

    def succeeded(self, event: CommandSucceededEvent) -> None: ...

    def failed(self, event: CommandFailedEvent) -> None: ...


def find_caller(frame: FrameType | None) -> str | None:
    """Return the product's line that sent a command, None if a test did."""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and ".venv" not in path.parts:
            inside = path.relative_to(ROOT)
            return None if inside.parts[0] == "tests" else f"{inside}:{frame.f_lineno}"
        frame = frame.f_back
    return None

"""Every index as named data, and the two functions that compare and send them."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec
from pymongo.database import Database
from pymongo.errors import CollectionInvalid

Document = dict[str, Any]


class Index(msgspec.Struct, frozen=True):
    """One index: its collection, its name and its keys. `expire_after` makes it a TTL index."""

    collection: str
    name: str
    keys: tuple[tuple[str, int], ...]
    expire_after: timedelta | None = None
    is_unique: bool = False
    partial: Mapping[str, Any] | None = None

    def build_document(self) -> Document:
        """Return the index as `createIndexes` takes it."""
        document: Document = {"name": self.name, "key": dict(self.keys)}
        if self.expire_after is not None:
            document["expireAfterSeconds"] = int(self.expire_after.total_seconds())
        if self.is_unique:
            document["unique"] = True
        if self.partial is not None:
            document["partialFilterExpression"] = dict(self.partial)
        return document


STATS_RETENTION = timedelta(days=400)
COLLECTIONS = (
    "automations", "automation_runs", "automation_contacts", "automation_triggers",
    "automation_run_stats", "tracking_writers", "tracking_switch", "webhook_dead_letters",
    "accounts", "api_tokens", "web_sessions",
)  # fmt: skip


def list_indexes(retention: timedelta | None) -> list[Index]:
    """Return every index; `retention` is how long runs and contacts are kept, None is forever."""
    newest = ("createdAt", -1)
    indexes = [
        Index("automation_runs", "automationId_createdAt", (("automationId", 1), newest)),
        Index(
            "automation_runs", "automationId_userId_createdAt",
            (("automationId", 1), ("userId", 1), newest),
        ),
        Index("automation_runs", "workspaceId_createdAt", (("workspaceId", 1), newest)),
        Index("automation_triggers", "expireAt_ttl", (("expireAt", 1),), timedelta(0)),
        Index(
            "automation_triggers", "untracked_createdAt", (("createdAt", 1),),
            partial={"outcome": "untracked"},
        ),
        Index("automation_run_stats", "hour_ttl", (("hour", 1),), STATS_RETENTION),
        Index("automation_run_stats", "stripe", (("stripe", 1),),
              partial={"stripe": {"$exists": True}}),
        Index("automations", "accountId_isActive", (("accountId", 1), ("isActive", 1))),
        Index("automations", "workspaceId_createdAt", (("workspaceId", 1), newest)),
        Index("api_tokens", "hash", (("hash", 1),), is_unique=True),
        Index("web_sessions", "expiresAt_ttl", (("expiresAt", 1),), timedelta(0)),
    ]  # fmt: skip
    if retention is not None:
        indexes += [
            Index("automation_runs", "createdAt_ttl", (("createdAt", 1),), retention),
            Index("automation_contacts", "lastRunAt_ttl", (("lastRunAt", 1),), retention),
        ]
    return indexes


def ensure_collections(database: Database[Document]) -> list[str]:
    """Create the collections that are missing and return their names.

    Before traffic: the first snapshot read of a collection that was just created fails.
    """
    missing = sorted(set(COLLECTIONS) - set(database.list_collection_names()))
    for name in missing:
        try:
            database.create_collection(name)
        except CollectionInvalid:
            pass  # another process was first
    return missing


def find_missing_indexes(
    database: Database[Document], indexes: Sequence[Index] | None = None
) -> list[Index]:
    """Return the declared indexes that the database does not have, by name."""
    wanted = list_indexes(timedelta(days=90)) if indexes is None else indexes
    present: dict[str, set[str]] = {}
    for index in wanted:
        if index.collection not in present:
            present[index.collection] = {
                one["name"] for one in database[index.collection].list_indexes()
            }
    return [index for index in wanted if index.name not in present[index.collection]]

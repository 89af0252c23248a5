"""Every index as named data, and the two functions that compare and send them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec
from bson import Int64, ObjectId
from pymongo.database import Database
from pymongo.errors import CollectionInvalid

from tracking.exceptions import StorageRefused

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
    "automation_run_stats", "tracking_partitions", "tracking_switch", "webhook_dead_letters",
    "accounts", "api_tokens", "web_sessions", "automation_lanes",
    "automation_hours", "deletion_requests",
)  # fmt: skip

# Documents of ours where other programs write too, and may have validators.
_SAMPLES: dict[str, Document] = {
    "automation_runs": {
        **dict.fromkeys(("automationId", "workspaceId", "triggerType", "userId", "eventId"), "x"),
        "_id": ObjectId(), "createdAt": datetime.now(UTC), "metadata": {"messageText": "x"},
    },
    "automations": {
        **dict.fromkeys(("workspaceId", "accountId", "name", "type"), "x"), "_id": ObjectId(),
        **dict.fromkeys(("createdAt", "updatedAt", "lastRunAt"), datetime.now(UTC)),
        "isActive": True, "totalRuns": Int64(1), "trigger": {}, "mainDm": {"text": "x"},
    },
}  # fmt: skip


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
        # No trigger expires before it is counted.
        Index("automation_triggers", "expireAt_ttl", (("expireAt", 1),), timedelta(0),
              partial={"outcome": {"$exists": True}}),
        # The queue of counting.
        Index(
            "automation_triggers", "uncounted",
            (("partition", 1), ("createdAt", 1), ("automationId", 1)),
            partial={"partition": {"$exists": True}},
        ),
        # What is pending of some automations, whatever waits of others: 0.6 instead of 640 ms while
        # 200,000 wait. It costs 3 us of an insert and 5 us of a mark.
        Index(
            "automation_triggers", "uncounted_automationId",
            (("automationId", 1), ("createdAt", 1), ("partition", 1)),
            partial={"partition": {"$exists": True}},
        ),
        # Only taps have it: they are behind the run that they carry on.
        Index("automation_triggers", "continues", (("continues", 1),),
              partial={"continues": {"$exists": True}}),
        # What is behind a run: found in 2.5 ms of 300,000 triggers, in 530 ms without. What is
        # counted does not pay for it.
        Index("automation_triggers", "duplicates_runId", (("runId", 1),),
              partial={"outcome": "duplicate"}),
        # The outbox: each holds only what there is to do; a new trigger pays for the first alone.
        Index(
            "automation_triggers", "outbox_queue",
            (("send.via", 1), ("accountId", 1), ("nextAt", 1), ("send.windowEndsAt", 1)),
            partial={"nextAt": {"$exists": True}},
        ),
        Index("automation_triggers", "outbox_leases", (("lease.until", 1),),
              partial={"lease.until": {"$exists": True}}),
        Index("automation_triggers", "outbox_unsettled", (("accountId", 1), ("userId", 1)),
              partial={"sendingAt": {"$exists": True}}),
        Index("automation_triggers", "outbox_mids", (("mids", 1),),
              partial={"mids": {"$exists": True}}),
        Index("automation_triggers", "outbox_reports", (("reportAt", 1),),
              partial={"reportAt": {"$exists": True}}),
        Index("automation_lanes", "turnAt", (("turnAt", 1),),
              partial={"turnAt": {"$exists": True}}),
        Index("automation_run_stats", "hour_ttl", (("hour", 1),), STATS_RETENTION),
        Index("automation_hours", "hour_ttl", (("hour", 1),), STATS_RETENTION),
        Index("automations", "accountId_isActive", (("accountId", 1), ("isActive", 1))),
        Index("automations", "workspaceId_createdAt", (("workspaceId", 1), newest)),
        Index("api_tokens", "hash", (("hash", 1),), is_unique=True),
        Index("webhook_dead_letters", "state", (("state", 1),)),
        Index("deletion_requests", "expireAt_ttl", (("expireAt", 1),), timedelta(0)),
        Index("web_sessions", "expiresAt_ttl", (("expiresAt", 1),), timedelta(0)),
    ]  # fmt: skip
    if retention is not None:
        indexes += [
            Index("automation_runs", "createdAt_ttl", (("createdAt", 1),), retention),
            Index("automation_contacts", "lastRunAt_ttl", (("lastRunAt", 1),), retention),
        ]
    return indexes


def ensure_collections(database: Database[Document], *, is_strict: bool = True) -> list[str]:
    """Create the collections that are missing and return their names.

    Before traffic: the first snapshot read of a collection that was just created fails. If it
    `is_strict`, raises StorageRefused where nothing can be counted in one that is there.
    """
    missing = sorted(set(COLLECTIONS) - set(database.list_collection_names()))
    for name in missing:
        with suppress(CollectionInvalid):  # another process was first
            database.create_collection(name)
    for name, kind in find_odd_kinds(database).items() if is_strict else ():
        raise StorageRefused(f"{name} is of the kind {kind}; see 'verify_run_tracking'.")
    return missing


def find_odd_kinds(database: Database[Document]) -> dict[str, str]:
    """Return our collections that cannot be written as counting does, each with its kind."""
    listed = database.list_collections(filter={"name": {"$in": list(COLLECTIONS)}})
    kinds = ((one["name"], "capped" in one["options"] and "capped", one["type"]) for one in listed)
    return {name: capped or kind for name, capped, kind in kinds if capped or kind != "collection"}


def list_obstacles(database: Database[Document]) -> dict[str, str]:
    """Return what of other programs refuses our documents: why, by collection or index."""
    odd = find_odd_kinds(database)
    found = {
        name: f"is of the kind {kind}, in which nothing is counted: copy it into an ordinary one"
        for name, kind in odd.items()
    }
    declared = {index.name for index in list_indexes(None) if index.is_unique}
    names = sorted(set(COLLECTIONS) - odd.keys())
    for one in database.list_collections(filter={"name": {"$in": names}}):
        name, options = one["name"], one["options"]
        is_off = {"off", "warn"} & {options.get("validationLevel"), options.get("validationAction")}
        if not is_off and not _takes_ours(database, name, options.get("validator")):
            found[name] = "has a validator that refuses our documents: change it"
        for index in database[name].list_indexes():
            if index.get("unique") and index["name"] not in declared and name != "automations":
                found[f"{name}.{index['name']}"] = "is a unique index that is not ours: drop it"
    return found


def _takes_ours(database: Database[Document], name: str, validator: Document | None) -> bool:
    """Return whether a validator takes our documents; beside the shared ones, none need be."""
    sample: list[Document] = [{"$documents": [_SAMPLES.get(name)]}, {"$match": validator}]
    return not validator or (name in _SAMPLES and bool(list(database.aggregate(sample))))


class IndexState(StrEnum):
    """How an index of the database compares with its declaration."""

    PRESENT = "present"
    MISSING = "missing"
    TTL_DIFFERS = "ttl differs"
    KEY_DIFFERS = "key differs"


class IndexFinding(msgspec.Struct, frozen=True):
    """One declared index beside what the database has; `found` is the server's own description."""

    index: Index
    state: IndexState
    found: Mapping[str, Any]


def compare_indexes(database: Database[Document], indexes: Sequence[Index]) -> list[IndexFinding]:
    """Return a finding for every index that its collection can have. Reads only."""
    present: dict[str, dict[str, Document]] = {}
    findings = []
    odd = find_odd_kinds(database)
    for index in (one for one in indexes if one.collection not in odd):
        if index.collection not in present:
            present[index.collection] = {
                one["name"]: dict(one) for one in database[index.collection].list_indexes()
            }
        findings.append(_compare(index, present[index.collection]))
    return findings


def _compare(index: Index, present: Mapping[str, Document]) -> IndexFinding:
    found = present.get(index.name)
    if found is None:
        # The same keys under another name: MongoDB refuses a second index on them.
        same = [one for one in present.values() if _keys_of(one) == index.keys]
        if same and not index.partial:
            return IndexFinding(index, IndexState.KEY_DIFFERS, same[0])
        return IndexFinding(index, IndexState.MISSING, {})
    is_same = (
        _keys_of(found) == index.keys
        and bool(found.get("unique")) == index.is_unique
        and dict(found.get("partialFilterExpression", {})) == dict(index.partial or {})
    )
    if not is_same:
        return IndexFinding(index, IndexState.KEY_DIFFERS, found)
    wanted = index.build_document().get("expireAfterSeconds")
    if found.get("expireAfterSeconds") != wanted:
        return IndexFinding(index, IndexState.TTL_DIFFERS, found)
    return IndexFinding(index, IndexState.PRESENT, found)


def _keys_of(found: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (name, int(value) if isinstance(value, int | float) else value)
        for name, value in found["key"].items()
    )


def apply_finding(database: Database[Document], finding: IndexFinding) -> bool:
    """Create a missing index or change a TTL; return whether something was changed.

    An index whose keys differ is left alone: dropping it is the operator's decision.
    """
    index = finding.index
    if finding.state is IndexState.MISSING:
        database.command("createIndexes", index.collection, indexes=[index.build_document()])
        return True
    if finding.state is IndexState.TTL_DIFFERS and index.expire_after is not None:
        seconds = int(index.expire_after.total_seconds())
        # collMod makes an index a TTL index, too, since MongoDB 5.1
        # (https://www.mongodb.com/docs/manual/reference/command/collMod/).
        database.command(
            "collMod", index.collection, index={"name": index.name, "expireAfterSeconds": seconds}
        )
        return True
    return False


def count_expired(database: Database[Document], index: Index, *, now: datetime) -> int:
    """Return how many documents a TTL index would delete at once."""
    if index.expire_after is None:
        return 0
    [(field, _)] = index.keys
    oldest = now - index.expire_after
    return database[index.collection].count_documents({field: {"$lt": oldest}})


def find_missing_indexes(database: Database[Document], retention: timedelta | None) -> list[Index]:
    """Return the declared indexes that the database does not have."""
    findings = compare_indexes(database, list_indexes(retention))
    return [one.index for one in findings if one.state is IndexState.MISSING]


def find_retention(database: Database[Document], configured: timedelta) -> timedelta | None:
    """Return after what time runs are really deleted: the TTL in force, None if there is none."""
    if "automation_runs" in find_odd_kinds(database):
        return None
    ttls = [
        one["expireAfterSeconds"]
        for one in database["automation_runs"].list_indexes()
        if "expireAfterSeconds" in one and list(one["key"]) == ["createdAt"]
    ]
    if not ttls:
        return None
    return min(timedelta(seconds=min(ttls)), configured)

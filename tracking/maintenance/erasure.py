"""Finding a person, and erasing: what was counted stays, and nothing says whom it was about.

The runs, the contact and the triggers of one automation get one random name in the person's place
and lose every text. Who writes again afterwards is a new person.

Triggers get the name as `erasedAs`, which no index holds. Those that are counted get it first, in
batches; one transaction then gives it to those that wait, the contact and the newest runs, and
counting takes that name for the person's from then on. The rest is rewritten in batches; after an
interruption, `erasedAs` says which name to use. The transaction writes the documents of the
partition and of its counter, because counting does not write triggers: a batch that read the
person's id conflicts.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from pymongo import ReplaceOne, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tracking.counting.documents import keep_metadata
from tracking.ids import (
    ERASED_PREFIX,
    build_account_range,
    build_contact_id,
    list_all_forms,
    list_stored_forms,
    name_id,
    parse_trigger_id,
    partition_of,
)
from tracking.mongo.errors import bounded
from tracking.mongo.transactions import batched, run_in_transaction
from tracking.rollups.hours import EARLIEST

Document = dict[str, Any]
Result = TypeVar("Result")
# The update of one trigger, given the document and the name that takes the person's place.
BuildUpdate = Callable[[Document, str], Document]

_KEPT_RUN = (
    "_id", "automationId", "workspaceId", "triggerType", "createdAt", "occurredAt",
    "personUnknown", "source", "steps", "completedAt",
)  # fmt: skip
# A server may end a transaction after 5 s, and a busy one takes 1.5 ms for each document.
_BATCH = 500
_IDS_PER_UPDATE = 2000
_SECONDS = 60.0
# Triggers have no index by person: those of an account, or all, are looked through.
_SCAN_SECONDS = 900.0
_AUTOMATIONS_PER_READ = 1000
# Of runs that name no automation, which `distinct` leaves out, or name it by nothing like an id.
_NAMELESS = name_id(None)
_ID_TYPES = [
    "string", "objectId", "int", "long", "double", "decimal", "binData", "object", "bool", "date",
    "timestamp",
]  # fmt: skip


class PersonStore:
    """Finds what is stored of a person. Every method raises TrackingUnavailable.

    `account_id` is the account that the person wrote to, None is every account: elsewhere the same
    id is another person's.
    """

    def __init__(self, database: Database[Document]) -> None:
        self._automations = database["automations"]
        self._contacts = database["automation_contacts"]
        self._triggers = database["automation_triggers"]
        self._runs = database["automation_runs"]

    def list_pairs(self, account_id: str | None, user_id: str) -> dict[str, list[str]]:
        """Return the person's automations, each with the ids of the triggers there."""
        pairs: dict[str, list[str]] = {}
        with bounded(_SCAN_SECONDS):
            others: set[str] = set()
            if account_id is not None:
                foreign = {"accountId": {"$nin": [*list_stored_forms(account_id), None]}}
                others = {
                    name_id(one["_id"]) for one in self._automations.find(foreign, {"_id": 1})
                }
            for trigger in self._find_triggers(account_id, user_id):
                if trigger["automationId"] not in others:
                    pairs.setdefault(trigger["automationId"], []).append(trigger["_id"])
            # By the indexes of runs and contacts: a key for each automation there is or was.
            known = {name_id(one["_id"]) for one in self._automations.find({}, {"_id": 1})}
            known |= {name_id(one) for one in self._runs.distinct("automationId")}
            known -= others
            for ids in batched(sorted(known), _AUTOMATIONS_PER_READ):
                contact_ids = [build_contact_id(one, user_id) for one in ids]
                found = self._contacts.distinct("automationId", {"_id": {"$in": contact_ids}})
                query = _build_run_query(ids, user_id)
                found += map(name_id, self._runs.distinct("automationId", query))
                for automation_id in known.intersection(found):
                    pairs.setdefault(automation_id, [])
            if self._runs.find_one(_build_run_query([_NAMELESS], user_id), {"_id": 1}):
                pairs.setdefault(_NAMELESS, [])
        return pairs

    def list_documents(self, account_id: str | None, user_id: str) -> dict[str, list[Document]]:
        """Return everything stored of the person, by collection, the oldest first."""
        collections = self._runs, self._contacts, self._triggers
        # A run may name several automations.
        documents: dict[str, dict[str, Document]] = {one.name: {} for one in collections}
        for automation_id, trigger_ids in self.list_pairs(account_id, user_id).items():
            runs = _build_run_query([automation_id], user_id)
            contact = {"_id": build_contact_id(automation_id, user_id)}
            queries: tuple[Document, ...] = (runs, contact, {"_id": {"$in": trigger_ids}})
            with bounded(_SECONDS):
                for collection, query in zip(collections, queries, strict=True):
                    found = collection.find(query).sort("createdAt", 1)
                    documents[collection.name] |= {name_id(one["_id"]): one for one in found}
        return {name: list(found.values()) for name, found in documents.items()}

    def _find_triggers(self, account_id: str | None, user_id: str) -> Iterator[Document]:
        fields = {"automationId": 1}
        if account_id is None:
            yield from self._triggers.find({"userId": user_id}, fields)
            return
        # An engine that counts by itself names the workspace for the account.
        forms = {"accountId": {"$in": list_stored_forms(account_id)}}
        owners = {account_id, *map(name_id, self._automations.distinct("workspaceId", forms))}
        for owner in owners:
            first, last = build_account_range(owner)
            query = {"_id": {"$gt": first, "$lt": last}, "userId": user_id}
            yield from self._triggers.find(query, fields)


def build_trigger_update(_: Document, name: str) -> Document:
    """Return the update that makes a trigger with nothing to send anonymous."""
    return {"$set": {"userId": name}, "$unset": {"metadata": ""}}


class Eraser(PersonStore):
    """Erases one person at a time. Safe to repeat, to interrupt, and under traffic."""

    def __init__(
        self, database: Database[Document], *, build_update: BuildUpdate = build_trigger_update
    ) -> None:
        super().__init__(database)
        self._client = database.client
        self._build_update = build_update
        self._partitions = database["tracking_partitions"]

    def erase(self, account_id: str | None, user_id: str) -> Counter[str]:
        """Return how many `runs`, `contacts` and `triggers` were made anonymous."""
        report: Counter[str] = Counter()
        for automation_id, trigger_ids in self.list_pairs(account_id, user_id).items():
            report += self._erase_pair(automation_id, user_id, trigger_ids)
        return report

    def _erase_pair(
        self, automation_id: str, user_id: str, trigger_ids: Sequence[str]
    ) -> Counter[str]:
        pair = {"automationId": automation_id, "userId": user_id}
        name = self._find_name(pair, trigger_ids) or ERASED_PREFIX + uuid4().hex
        waiting: list[str] = []
        for ids in batched(trigger_ids, _IDS_PER_UPDATE):
            waiting += self._run(partial(self._mark_counted, pair, name, ids))
        contacts, runs, oldest = self._run(partial(self._move, pair, name, waiting))
        report = Counter(contacts=contacts, runs=runs)
        while oldest is not None:
            number, oldest = self._run(partial(self._rename_runs, pair, name, oldest))
            report["runs"] += number
        for ids in batched(trigger_ids, _BATCH):
            report["triggers"] += self._run(partial(self._rewrite_triggers, pair, name, ids))
        return report

    def _find_name(self, pair: Document, trigger_ids: Sequence[str]) -> str | None:
        """Return the name that an erasure gave which ended before it moved the contact."""
        for ids in batched(trigger_ids, _IDS_PER_UPDATE):
            query = {**_build_trigger_query(pair, ids), "erasedAs": {"$exists": True}}
            with bounded(_SECONDS):
                marked = self._triggers.find_one(query, {"erasedAs": 1})
                if marked is not None:
                    name: str = marked["erasedAs"]
                    moved = {"_id": build_contact_id(pair["automationId"], name)}
                    return None if self._contacts.find_one(moved, {"_id": 1}) else name
        return None

    def _mark_counted(
        self, pair: Document, name: str, trigger_ids: Sequence[str], session: ClientSession
    ) -> list[str]:
        """Set the name on triggers that are counted; return those that wait."""
        query = {**_build_trigger_query(pair, trigger_ids), "erasedAs": {"$exists": False}}
        counted = {**query, "partition": {"$exists": False}}
        self._triggers.update_many(counted, {"$set": {"erasedAs": name}}, session=session)
        return [one["_id"] for one in self._triggers.find(query, {"_id": 1}, session=session)]

    def _run(self, work: Callable[[ClientSession], Result]) -> Result:
        with bounded(_SECONDS):
            return run_in_transaction(self._client, work, seconds=_SECONDS / 2)

    def _move(
        self, pair: Document, name: str, trigger_ids: Sequence[str], session: ClientSession
    ) -> tuple[int, int, datetime | None]:
        """Give the contact, the newest runs and what waits its name, all at once."""
        automation_id = pair["automationId"]
        # First, while the snapshot is young: counting writes its own document all the time.
        self._conflict_with_counting(automation_id, session)
        contact_id = build_contact_id(automation_id, pair["userId"])
        contact = self._contacts.find_one_and_delete(
            {"_id": contact_id, "automationId": automation_id}, session=session
        )
        if contact is not None:
            moved = {"_id": build_contact_id(automation_id, name), "userId": name}
            self._contacts.insert_one(contact | moved, session=session)
        for ids in batched(trigger_ids, _IDS_PER_UPDATE):
            self._triggers.update_many(
                {**_build_trigger_query(pair, ids), "erasedAs": {"$exists": False}},
                {"$set": {"erasedAs": name}},
                session=session,
            )
        return int(contact is not None), *self._rename_runs(pair, name, None, session)

    def _conflict_with_counting(self, automation_id: str, session: ClientSession) -> None:
        change = {"$inc": {"erasures": 1}}
        partition = self._partitions.find_one_and_update(
            {"_id": partition_of(automation_id)},
            {**change, "$setOnInsert": {"owner": None}},
            upsert=True,
            session=session,
        )
        owner = (partition or {}).get("owner")
        if owner is not None:
            self._partitions.update_one({"_id": owner}, change, session=session)

    def _rename_runs(
        self, pair: Document, name: str, before: datetime | None, session: ClientSession
    ) -> tuple[int, datetime | None]:
        """Rename the newest runs up to `before`; return how many, and where the next ones begin."""
        query = _build_run_query([pair["automationId"]], pair["userId"])
        if before is not None:
            query["createdAt"] = {"$not": {"$gt": before}}
        found = self._runs.find(query, session=session, batch_size=_BATCH + 1)
        runs = list(found.sort("createdAt", -1).limit(_BATCH))
        writes = []
        for run in runs:
            key = {"_id": run["_id"], "automationId": {"$eq": run.get("automationId")}}
            writes.append(ReplaceOne(key, build_run(run, name)))
        if writes:
            self._runs.bulk_write(writes, ordered=False, session=session)
        times = [at for run in runs if isinstance(at := run.get("createdAt"), datetime)]
        # What is no time is sorted behind all that is.
        return len(runs), min(times, default=EARLIEST) if len(runs) == _BATCH else None

    def _rewrite_triggers(
        self, pair: Document, name: str, trigger_ids: Sequence[str], session: ClientSession
    ) -> int:
        query = _build_trigger_query(pair, trigger_ids)
        documents = list(self._triggers.find(query, session=session, batch_size=_BATCH + 1))
        writes = []
        for document in documents:
            update = self._build_update(document, document.get("erasedAs", name))
            unset = update.setdefault("$unset", {})
            unset["erasedAs"] = ""
            if "partition" in document:  # its run will be built from it
                unset.pop("metadata", None)
                update["$set"]["metadata"] = keep_metadata(document.get("metadata"))
            key = {"_id": document["_id"], "accountId": document["accountId"]}
            writes.append(UpdateOne(key, update))
        if writes:
            self._triggers.bulk_write(writes, ordered=False, session=session)
        return len(writes)


def _build_run_query(automation_ids: Sequence[str], user_id: str) -> Document:
    forms: Document = {"$in": list_all_forms(automation_ids)}
    if list(automation_ids) == [_NAMELESS]:
        forms = {"$not": {"$type": _ID_TYPES}}
    return {"automationId": forms, "userId": {"$in": list_stored_forms(user_id)}}


def _build_trigger_query(pair: Mapping[str, Any], trigger_ids: Sequence[str]) -> Document:
    accounts = {parse_trigger_id(one)[0] for one in trigger_ids}
    return {"_id": {"$in": list(trigger_ids)}, "accountId": {"$in": list(accounts)}, **pair}


def build_run(run: Mapping[str, Any], name: str) -> Document:
    """Return the run as it stays: when and what it was, and of nobody."""
    kept = {field: run[field] for field in _KEPT_RUN if field in run}
    kept["metadata"] = keep_metadata(run.get("metadata"))
    kept["userId"] = name
    if "eventId" in run:  # its presence tells our runs from an earlier product's
        kept["eventId"] = name
    return kept

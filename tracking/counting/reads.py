"""What a flush has to know before it decides. Every method runs inside the caller's transaction."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from bson import ObjectId
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tracking.counting.switch import Switch, SwitchState, parse_switch
from tracking.mongo.commands import run_find, run_read
from tracking.runs import Claim

Document = dict[str, Any]


class Found(msgspec.Struct, frozen=True):
    """Which triggers are stored, the pairs that have a contact, and the switch of tracking."""

    known_ids: set[str]
    claims: dict[str, Claim]
    switch: Switch


class FlushReads:
    """Reads of the collections that a flush touches."""

    def __init__(self, database: Database[Document]) -> None:
        self._database = database
        self._is_sharded: bool | None = None

    def find(self, pairs: Mapping[str, str], session: ClientSession) -> Found:
        """Return what is stored of these triggers, each named with its contact, and the switch."""
        if self._is_sharded is None:
            self._is_sharded = self._database.client.is_mongos
        if self._is_sharded or len(pairs) > _FEW:
            return self.find_one_by_one(pairs, session)
        return self.find_at_once(pairs, session)

    def find_at_once(self, pairs: Mapping[str, str], session: ClientSession) -> Found:
        """Return it by one command: in a small flush its commands are most of what it costs."""
        pipeline = build_reads(pairs.keys(), set(pairs.values()))
        command = {"aggregate": "tracking_switch", "pipeline": pipeline, "cursor": {}}
        [found] = run_read(self._database, "tracking_switch", command, session)
        return _build_found(**found)

    def find_one_by_one(self, pairs: Mapping[str, str], session: ClientSession) -> Found:
        """Return it by three commands, those after the first for new triggers alone.

        That spares a replay most of its reads: with nothing new, the switch decides nothing. And a
        transaction cannot `$lookup` in sharded collections
        (https://www.mongodb.com/docs/manual/reference/operator/aggregation/lookup/).
        """
        triggers = self._find("automation_triggers", pairs, (), session)
        known = {document["_id"] for document in triggers}
        fresh = {contact for trigger, contact in pairs.items() if trigger not in known}
        if not fresh:
            return Found(known, {}, Switch(SwitchState.ON))
        return _build_found(
            triggers=triggers,
            contacts=self._find("automation_contacts", fresh, _CLAIM_FIELDS, session),
            switch=self._find("tracking_switch", ["tracking"], _SWITCH_FIELDS, session),
        )

    def find_run_ids(
        self, trigger_ids: Sequence[str], session: ClientSession
    ) -> dict[str, ObjectId | None]:
        """Return the run id of each stored trigger among `trigger_ids`."""
        found = self._find("automation_triggers", trigger_ids, ("runId",), session)
        return {document["_id"]: document.get("runId") for document in found}

    def _find(
        self, collection: str, ids: Collection[str], fields: Sequence[str], session: ClientSession
    ) -> list[Document]:
        if not ids:
            return []
        return run_find(
            self._database, collection, {"_id": {"$in": list(ids)}}, fields,
            most=len(ids), session=session,
        )  # fmt: skip


# Above it two more commands weigh little, and contacts that are not read weigh more.
_FEW = 100
_CLAIM_FIELDS = ("lastRunAt", "lastRunId")
_SWITCH_FIELDS = ("state", "heldUntil", "erasedUntil")


def build_reads(trigger_ids: Iterable[str], contact_ids: Iterable[str]) -> list[Document]:
    """Return the pipeline on `tracking_switch` that reads all three collections.

    `$facet` makes one document also where nobody ever touched the switch; `$unionWith`, which
    would be plainer, is not allowed in a transaction.
    """
    return [
        {"$match": {"_id": "tracking"}},
        {"$facet": {"switch": [{"$project": dict.fromkeys(_SWITCH_FIELDS, 1)}]}},
        _build_lookup("automation_triggers", "triggers", trigger_ids, ()),
        _build_lookup("automation_contacts", "contacts", contact_ids, _CLAIM_FIELDS),
    ]


def _build_lookup(
    collection: str, name: str, ids: Iterable[str], fields: Sequence[str]
) -> Document:
    pipeline = [
        {"$match": {"_id": {"$in": list(ids)}}},
        {"$project": dict.fromkeys(("_id", *fields), 1)},
    ]
    return {"$lookup": {"from": collection, "as": name, "pipeline": pipeline}}


def _build_found(
    *, triggers: list[Document], contacts: list[Document], switch: list[Document]
) -> Found:
    claims = {
        document["_id"]: Claim(
            last_run_at=document.get("lastRunAt"),
            last_run_id=document.get("lastRunId"),
            is_stored=True,
        )
        for document in contacts
    }
    state = parse_switch(next(iter(switch), None), now=datetime.now(UTC))
    return Found({document["_id"] for document in triggers}, claims, state)

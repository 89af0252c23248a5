"""Erasing a person: what was counted stays, and nothing says any more whom it was about.

Each pair of automation and person is made anonymous in one transaction. Its runs, its contact and
its triggers get a random name in the person's place and lose every text; counts, totals and
windows are those of the same documents. Who writes again inside the window must not count again
(I1): until it ends, the pair's newest run stands in `erased_claims` under a keyed hash of the pair,
and the switch, which every flush reads, says until when to look there.

A flush that runs meanwhile either sees all of that or none of it. One that moves the same contact
conflicts, and is tried again; one that stored another trigger in the meantime left the person's id
there, which is why a person is erased until nothing is found.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tracking.counting.switch import note_erasure
from tracking.exceptions import TrackingUnavailable
from tracking.ids import build_contact_id, build_erased_id
from tracking.maintenance.people import PersonStore
from tracking.maintenance.replay import Replayer
from tracking.mongo.errors import bounded
from tracking.mongo.transactions import run_in_transaction
from tracking.runs import Outcome

Document = dict[str, Any]
# The update of one trigger, given the document and the name that takes the person's place.
BuildUpdate = Callable[[Document, str], Document]

PREFIX = "erased:"
# Of a run's metadata, what is the account's own; the rest is, or may be, the person's.
KEPT_METADATA = ("postId", "storyId")
_KEPT_RUN = (
    "_id", "automationId", "workspaceId", "triggerType", "createdAt", "occurredAt",
    "personUnknown", "steps", "completedAt",
)  # fmt: skip
# What arrived inside the window may be committed a little later.
_CLAIM_SLACK = timedelta(minutes=1)
_SECONDS = 60.0


class Erasure(msgspec.Struct):
    """How many documents of a person were made anonymous, or would be."""

    runs: int = 0
    contacts: int = 0
    triggers: int = 0

    def add(self, other: "Erasure") -> None:
        """Add another one's figures to this one."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def __bool__(self) -> bool:
        return bool(self.runs or self.contacts or self.triggers)


def build_trigger_update(document: Document, name: str) -> Document:
    """Return the update that makes a trigger with nothing to send anonymous."""
    del document
    return {"$set": {"userId": name}, "$unset": {"metadata": ""}}


class Eraser:
    """Erases one person at a time. Safe to repeat, to interrupt, and under traffic.

    Every method raises TrackingUnavailable.
    """

    def __init__(
        self,
        database: Database[Document],
        *,
        window: timedelta,
        keys: Sequence[bytes],
        build_update: BuildUpdate = build_trigger_update,
    ) -> None:
        self._database = database
        self._window = window
        self._keys = keys
        self._build_update = build_update
        self._replayer = Replayer(database, window=window)
        self._people = PersonStore(database)
        self._contacts = database["automation_contacts"]
        self._triggers = database["automation_triggers"]
        self._runs = database["automation_runs"]
        self._erased = database["erased_claims"]

    def erase(self, account_id: str | None, user_id: str, *, at: datetime) -> Erasure:
        """Erase what is stored of the person and return what that was; all zero: nothing is left.

        `account_id` is the account that the person wrote to, None is every account.
        """
        report = Erasure()
        for automation_id, trigger_ids in self._people.list_pairs(account_id, user_id).items():
            self._count_untracked(automation_id, trigger_ids, at=at)
            report.add(self._erase_pair(automation_id, user_id, trigger_ids, at=at))
        return report

    def _count_untracked(
        self, automation_id: str, trigger_ids: Sequence[str], *, at: datetime
    ) -> None:
        """Count what waits of the pair, while it is known which runs are beside it (I7)."""
        query = {"_id": {"$in": list(trigger_ids)}, "outcome": Outcome.UNTRACKED.value}
        with bounded(_SECONDS):
            waiting = list(self._triggers.find(query, {"automationId": 1}))
            if waiting:
                self._replayer.replay_triggers(waiting, now=at)

    def _erase_pair(
        self, automation_id: str, user_id: str, trigger_ids: Sequence[str], *, at: datetime
    ) -> Erasure:
        def work(session: ClientSession) -> Erasure:
            return self._erase_in(automation_id, user_id, trigger_ids, at=at, session=session)

        with bounded(_SECONDS):
            return run_in_transaction(self._database.client, work, seconds=_SECONDS / 2)

    def _erase_in(
        self, automation_id: str, user_id: str, trigger_ids: Sequence[str], *,
        at: datetime, session: ClientSession,
    ) -> Erasure:  # fmt: skip
        pair = {"automationId": automation_id, "userId": user_id}
        contact_id = build_contact_id(automation_id, user_id)
        contact = self._contacts.find_one({"_id": contact_id}, session=session)
        runs = list(self._runs.find(pair, session=session))
        triggers = list(
            self._triggers.find({"_id": {"$in": list(trigger_ids)}, **pair}, session=session)
        )
        if any(one["outcome"] == Outcome.UNTRACKED.value for one in triggers):
            raise TrackingUnavailable("the person is being counted at this moment, run it again")
        name = PREFIX + uuid4().hex
        if contact is None and not runs:
            name = self._find_name(contact_id, triggers, session) or name
        if contact is not None:
            self._contacts.delete_one({"_id": contact_id}, session=session)
            renamed = {"_id": build_contact_id(automation_id, name), "userId": name}
            self._contacts.insert_one(contact | renamed, session=session)
        for run in runs:
            self._runs.replace_one({"_id": run["_id"]}, build_run(run, name), session=session)
        writes = [UpdateOne({"_id": one["_id"]}, self._build_update(one, name)) for one in triggers]
        if writes:
            self._triggers.bulk_write(writes, ordered=False, session=session)
        self._keep_claim(contact_id, name, contact, runs, at=at, session=session)
        return Erasure(len(runs), int(contact is not None), len(triggers))

    def _find_name(
        self, contact_id: str, triggers: Sequence[Document], session: ClientSession
    ) -> str | None:
        """Return the name that an earlier erasure gave to the runs that these triggers name."""
        hashes = [build_erased_id(contact_id, key=key) for key in self._keys]
        claim = self._erased.find_one({"_id": {"$in": hashes}}, session=session)
        if claim is not None:
            return str(claim["userId"])
        run_ids = [one["runId"] for one in triggers if one.get("runId") is not None]
        named = {"_id": {"$in": run_ids}, "userId": {"$regex": f"^{PREFIX}"}}
        run = self._runs.find_one(named, {"userId": 1}, session=session) if run_ids else None
        return None if run is None else str(run["userId"])

    def _keep_claim(
        self, contact_id: str, name: str, contact: Document | None, runs: Sequence[Document], *,
        at: datetime, session: ClientSession,
    ) -> None:  # fmt: skip
        known = [(run["createdAt"], run["_id"]) for run in runs]
        if contact is not None and contact.get("lastRunAt") is not None:
            known.append((contact["lastRunAt"], contact.get("lastRunId")))
        if not known:
            return
        last_run_at, run_id = max(known, key=lambda one: one[0])
        until = last_run_at + self._window
        if until + _CLAIM_SLACK < at:
            return
        claim = {
            "userId": name, "runId": run_id, "lastRunAt": last_run_at,
            "expireAt": until + _CLAIM_SLACK,
        }  # fmt: skip
        claim_id = build_erased_id(contact_id, key=self._keys[0])
        self._erased.replace_one({"_id": claim_id}, claim, upsert=True, session=session)
        note_erasure(self._database, until=until, session=session)


def build_run(run: Mapping[str, Any], name: str) -> Document:
    """Return the run as it stays: when and what it was, and of nobody."""
    kept = {field: run[field] for field in _KEPT_RUN if field in run}
    metadata = run.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {}
    kept["metadata"] = {field: metadata[field] for field in KEPT_METADATA if field in metadata}
    kept["userId"] = name
    if "eventId" in run:  # its presence tells our runs from an earlier product's
        kept["eventId"] = name
    return kept

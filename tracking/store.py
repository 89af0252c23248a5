"""The reads and writes of a flush. Every method runs inside the caller's transaction."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import WriteError

from tracking.rollups import build_increments, build_live_id
from tracking.runs import (
    Claim,
    FlushPlan,
    Outcome,
    Planned,
    Trigger,
    build_contact_id,
    build_erased_id,
)

Document = dict[str, Any]
TRIGGER_RETENTION = timedelta(days=7)
# One with something to send: twice the longest window; whoever sends it shortens this.
JOB_RETENTION = timedelta(days=14)


def generate_run_ids() -> Iterator[ObjectId]:
    """Yield fresh run ids."""
    while True:
        yield ObjectId()


class FlushStore:
    """Access to the collections that a flush touches."""

    def __init__(self, database: Database[Document]) -> None:
        self._database = database
        self._triggers = database["automation_triggers"]
        self._contacts = database["automation_contacts"]
        self._runs = database["automation_runs"]
        self._erased = database["erased_claims"]

    def find_known_ids(self, trigger_ids: Sequence[str], session: ClientSession) -> set[str]:
        """Return those of `trigger_ids` that are stored: their events came before."""
        # batch_size: a cursor's first batch is 101 documents otherwise.
        cursor = self._triggers.find(
            {"_id": {"$in": list(trigger_ids)}}, {"_id": 1},
            session=session, batch_size=len(trigger_ids) + 1,
        )  # fmt: skip
        return {document["_id"] for document in cursor}

    def find_run_ids(
        self, trigger_ids: Sequence[str], session: ClientSession
    ) -> dict[str, ObjectId | None]:
        """Return the run id of each stored trigger among `trigger_ids`."""
        cursor = self._triggers.find(
            {"_id": {"$in": list(trigger_ids)}}, {"runId": 1},
            session=session, batch_size=len(trigger_ids) + 1,
        )  # fmt: skip
        return {document["_id"]: document.get("runId") for document in cursor}

    def find_claims(self, contact_ids: Collection[str], session: ClientSession) -> dict[str, Claim]:
        """Return the stored pairs among `contact_ids`."""
        cursor = self._contacts.find(
            {"_id": {"$in": list(contact_ids)}}, {"lastRunAt": 1, "lastRunId": 1},
            session=session, batch_size=len(contact_ids) + 1,
        )  # fmt: skip
        return {
            document["_id"]: Claim(
                last_run_at=document.get("lastRunAt"),
                last_run_id=document.get("lastRunId"),
                is_stored=True,
            )
            for document in cursor
        }

    def find_raw_claims(
        self, triggers: Iterable[Trigger], *, window: timedelta, session: ClientSession
    ) -> dict[str, Claim]:
        """Return the newest raw run of each trigger's pair within the window before it.

        For automations whose earlier runs have no contacts yet: runs that another product stored.
        """
        pairs: dict[str, set[str]] = {}
        oldest: datetime | None = None
        for trigger in triggers:
            pairs.setdefault(trigger.automation_id, set()).add(trigger.user_id)
            oldest = trigger.arrived_at if oldest is None else min(oldest, trigger.arrived_at)
        if oldest is None:
            return {}
        claims: dict[str, Claim] = {}
        for automation_id, user_ids in pairs.items():
            runs = self._runs.find(
                {"automationId": automation_id, "userId": {"$in": list(user_ids)},
                 "createdAt": {"$gte": oldest - window}},
                {"userId": 1, "createdAt": 1}, session=session,
            )  # fmt: skip
            for run in sorted(runs, key=lambda run: run["createdAt"]):
                contact_id = build_contact_id(automation_id, run["userId"])
                claims[contact_id] = Claim(
                    last_run_at=run["createdAt"],
                    last_run_id=run["_id"],
                    first_run_at=run["createdAt"],
                )
        return claims

    def find_erased_claims(
        self, contact_ids: Collection[str], *, keys: Sequence[bytes], session: ClientSession
    ) -> dict[str, Claim]:
        """Return the claims of those pairs that were erased inside their window."""
        pairs = {build_erased_id(one, key=key): one for key in keys for one in contact_ids}
        cursor = self._erased.find(
            {"_id": {"$in": list(pairs)}}, {"lastRunAt": 1, "runId": 1},
            session=session, batch_size=len(pairs) + 1,
        )  # fmt: skip
        return {
            pairs[document["_id"]]: Claim(
                last_run_at=document["lastRunAt"], last_run_id=document["runId"], is_erased=True
            )
            for document in cursor
        }

    def insert_plan(self, plan: FlushPlan, *, stripe: int, session: ClientSession) -> None:
        """Write everything that a flush decided."""
        planned = plan.planned
        if not planned:
            return
        self._write_claims(plan, session)
        self._insert("automation_triggers", [_build_trigger(item) for item in planned], session)
        self.insert_runs(planned, session)
        self.update_live(planned, stripe=stripe, session=session)

    def insert_untracked(self, planned: Sequence[Planned], session: ClientSession) -> None:
        """Store triggers that are not counted now; they do not expire."""
        documents = [_build_trigger(item) for item in planned]
        if documents:
            self._insert("automation_triggers", documents, session)

    def insert_runs(self, planned: Sequence[Planned], session: ClientSession) -> None:
        """Insert the run of every counted trigger."""
        runs = [_build_run(item) for item in planned if item.outcome is Outcome.COUNTED]
        if runs:
            self._insert("automation_runs", runs, session)

    def _write_claims(self, plan: FlushPlan, session: ClientSession) -> None:
        owners = {
            build_contact_id(item.trigger.automation_id, item.trigger.user_id): item.trigger
            for item in plan.planned
            if item.outcome is Outcome.COUNTED
        }
        updates: list[Document] = []
        inserts: list[Document] = []
        for contact_id, trigger in owners.items():
            claim = plan.claims[contact_id]
            if claim.is_stored:
                change = {
                    "$set": {"lastRunAt": claim.last_run_at, "lastRunId": claim.last_run_id},
                    "$inc": {"runs": claim.new_runs},
                }
                updates.append({"q": {"_id": contact_id}, "u": change})
            else:
                inserts.append({
                    "_id": contact_id, "automationId": trigger.automation_id,
                    "workspaceId": trigger.workspace_id, "userId": trigger.user_id,
                    "firstRunAt": claim.first_run_at, "lastRunAt": claim.last_run_at,
                    "lastRunId": claim.last_run_id, "runs": claim.new_runs,
                })  # fmt: skip
        if inserts:
            self._insert("automation_contacts", inserts, session)
        if updates:
            self._update("automation_contacts", updates, session)

    def update_live(
        self, planned: Sequence[Planned], *, stripe: int, session: ClientSession
    ) -> None:
        """Add counted runs and duplicates to the automations' live documents of a stripe."""
        newest: dict[str, datetime] = {}
        for item in planned:
            if item.outcome is Outcome.COUNTED:
                automation_id = item.trigger.automation_id
                arrived_at = item.trigger.arrived_at
                known = newest.get(automation_id)
                if known is None or arrived_at > known:
                    newest[automation_id] = arrived_at
        updates: list[Document] = []
        for automation_id, increments in build_increments(planned).items():
            update: Document = {
                "$inc": increments,
                "$setOnInsert": {"automationId": automation_id, "stripe": stripe},
            }
            if automation_id in newest:
                update["$max"] = {"lastRunAt": newest[automation_id]}
            live_id = build_live_id(automation_id, stripe)
            updates.append({"q": {"_id": live_id}, "u": update, "upsert": True})
        if updates:  # there are none where a flush holds only continuations
            self._update("automation_run_stats", updates, session)

    def _insert(
        self, collection: str, documents: Sequence[Document], session: ClientSession
    ) -> None:
        # The bare commands: `insert_many` and `bulk_write` inspect every document once more,
        # which was a fifth of a flush's time in Python.
        command = {"insert": collection, "documents": documents}
        _raise_first_error(self._database.command(command, session=session))

    def _update(self, collection: str, updates: Sequence[Document], session: ClientSession) -> None:
        command = {"update": collection, "updates": updates, "ordered": False}
        _raise_first_error(self._database.command(command, session=session))


def _raise_first_error(reply: Mapping[str, Any]) -> None:
    """Raise what a write command reports about a single document, as pymongo's methods do."""
    for error in reply.get("writeErrors", ()):
        raise WriteError(error.get("errmsg", ""), error.get("code"), error)


def _build_trigger(item: Planned) -> Document:
    trigger = item.trigger
    document: Document = {
        "_id": item.trigger_id,
        "accountId": trigger.account_id,
        "automationId": trigger.automation_id,
        "workspaceId": trigger.workspace_id,
        "triggerType": trigger.trigger_type,
        "userId": trigger.user_id,
        "createdAt": trigger.arrived_at,
        "outcome": item.outcome.value,
        "runId": item.run_id,
    }
    if trigger.occurred_at is not None:
        document["occurredAt"] = trigger.occurred_at
    if trigger.person_unknown:
        document["personUnknown"] = True
    if trigger.continues is not None:
        document["continues"] = trigger.continues
    if trigger.send is not None:
        document["send"] = trigger.send
        document["state"] = "queued"
        document["nextAt"] = trigger.arrived_at
    if item.outcome is Outcome.UNTRACKED:
        document["metadata"] = trigger.metadata  # the run is written from here later
    else:
        kept = TRIGGER_RETENTION if trigger.send is None else JOB_RETENTION
        document["expireAt"] = trigger.arrived_at + kept
    return document


def _build_run(item: Planned) -> Document:
    trigger = item.trigger
    document: Document = {
        "_id": item.run_id,
        "automationId": trigger.automation_id,
        "workspaceId": trigger.workspace_id,
        "triggerType": trigger.trigger_type,
        "userId": trigger.user_id,
        "metadata": trigger.metadata,
        "createdAt": trigger.arrived_at,
        "eventId": trigger.event_id,
    }
    if trigger.occurred_at is not None:
        document["occurredAt"] = trigger.occurred_at
    if trigger.person_unknown:
        document["personUnknown"] = True
    return document

"""The documents that counting writes. Pure: plain values in, plain values out."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tracking.ids import ERASED_PREFIX, build_contact_id
from tracking.rollups.hours import build_base_id, build_increments
from tracking.runs import Claim, Decision, Outcome, Waiting

Document = dict[str, Any]

# After it was counted. One with something to send: twice the longest window to send it in; whoever
# has sent it shortens this.
TRIGGER_RETENTION = timedelta(days=7)
JOB_RETENTION = timedelta(days=14)

# What a run takes over from its trigger, under the same names.
_RUN_FIELDS = ("automationId", "workspaceId", "triggerType", "userId")
_OPTIONAL = ("occurredAt", "personUnknown", "source")
_KEPT_METADATA = ("postId", "storyId")
WAITING_FIELDS = (
    *_RUN_FIELDS, *_OPTIONAL, "accountId", "automationKey", "createdAt", "runId", "metadata",
    "continues", "state", "erasedAs",
)  # fmt: skip


def parse_waiting(document: Mapping[str, Any]) -> Waiting:
    """Return what deciding a stored trigger takes."""
    return Waiting(
        trigger_id=document["_id"],
        automation_id=document["automationId"],
        user_id=document["userId"],
        arrived_at=document["createdAt"],
        run_id=document["runId"],
        continues=document.get("continues"),
    )


def build_run(document: Mapping[str, Any], event_id: str) -> Document:
    """Return the document of `automation_runs` of a stored trigger.

    That of a person who was erased in the meantime says nothing of the person either.
    """
    run: Document = {"_id": document["runId"]}
    for name in _RUN_FIELDS:
        run[name] = document[name]
    is_erased = document["userId"].startswith(ERASED_PREFIX)
    metadata = document.get("metadata") or {}
    run["metadata"] = keep_metadata(metadata) if is_erased else metadata
    run["createdAt"] = document["createdAt"]
    run["eventId"] = document["userId"] if is_erased else event_id
    for name in _OPTIONAL:
        if name in document:
            run[name] = document[name]
    return run


def keep_metadata(metadata: Any) -> Document:
    """Return what is the account's own of a run's metadata; the rest may be the person's."""
    known = metadata if isinstance(metadata, Mapping) else {}
    return {name: known[name] for name in _KEPT_METADATA if name in known}


def parse_claim(document: Mapping[str, Any]) -> Claim:
    """Return the claim that a contact is."""
    return Claim(
        last_run_at=document.get("lastRunAt"),
        last_run_id=document.get("lastRunId"),
        first_run_at=document.get("firstRunAt"),
        is_stored=True,
    )


def build_contacts(
    runs: Sequence[Mapping[str, Any]], claims: Mapping[str, Claim]
) -> tuple[list[Document], list[Document]]:
    """Return the contacts to insert and the updates of those stored, of the pairs of new runs."""
    inserts: list[Document] = []
    updates: list[Document] = []
    pairs = {build_contact_id(one["automationId"], one["userId"]): one for one in runs}
    for contact_id, run in pairs.items():
        claim = claims[contact_id]
        if claim.is_stored:
            change = {
                "$set": {"lastRunAt": claim.last_run_at, "lastRunId": claim.last_run_id},
                "$min": {"firstRunAt": claim.first_run_at},
                "$inc": {"runs": claim.new_runs},
            }
            query = {"_id": contact_id, "automationId": run["automationId"]}
            updates.append({"q": query, "u": change})
        else:
            inserts.append({
                "_id": contact_id, "automationId": run["automationId"],
                "workspaceId": run["workspaceId"], "userId": run["userId"],
                "firstRunAt": claim.first_run_at, "lastRunAt": claim.last_run_at,
                "lastRunId": claim.last_run_id, "runs": claim.new_runs,
            })  # fmt: skip
    return inserts, updates


class Growth:
    """What a batch adds to one automation: runs, the newest of them, and `$inc` of its hours."""

    __slots__ = ("increments", "key", "newest", "runs")

    def __init__(self, key: Any) -> None:
        self.key = key
        self.runs = 0
        self.newest: datetime | None = None
        self.increments: dict[str, int] = {}


def build_growth(
    documents: Sequence[Mapping[str, Any]], decisions: Sequence[Decision]
) -> dict[str, Growth]:
    """Return what each automation of a batch grows by."""
    growth: dict[str, Growth] = {}
    for document, decision in zip(documents, decisions, strict=True):
        if decision.outcome is Outcome.CONTINUATION:
            continue
        automation_id = document["automationId"]
        one = growth.get(automation_id)
        if one is None:
            one = growth[automation_id] = Growth(document["automationKey"])
        moment = document["createdAt"]
        if decision.outcome is Outcome.COUNTED:
            one.runs += 1
            if one.newest is None or moment > one.newest:
                one.newest = moment
        build_increments(one.increments, moment, decision)
    return growth


def build_stats_updates(growth: Mapping[str, Growth]) -> list[Document]:
    """Return the updates of `automation_run_stats`, one for each automation."""
    updates: list[Document] = []
    for automation_id, one in growth.items():
        change: Document = {"$inc": {"runs": one.runs, **one.increments}}
        if one.newest is not None:
            change["$max"] = {"lastRunAt": one.newest}
        query = {"_id": build_base_id(automation_id), "automationId": automation_id}
        updates.append({"q": query, "u": change})
    return updates


def build_marks(documents: Sequence[Mapping[str, Any]], decisions: Sequence[Decision]) -> Document:
    """Return a batch's decisions as its counter keeps them until the triggers are marked.

    Most are counted: of these the ids are enough. `jobs` are those with something to send.
    `newest` is the latest arrival: an event that is delivered again when its trigger has expired
    is another trigger of the same id.
    """
    counted: list[str] = []
    jobs: list[str] = []
    others: list[list[Any]] = []
    accounts: set[str] = set()
    for document, decision in zip(documents, decisions, strict=True):
        is_job = "state" in document
        if decision.outcome is Outcome.COUNTED:
            (jobs if is_job else counted).append(document["_id"])
            accounts.add(document["accountId"])
        else:
            others.append([
                document["_id"], document["accountId"], is_job, decision.outcome.value,
                decision.run_id,
            ])  # fmt: skip
    return {
        "counted": counted, "jobs": jobs, "accounts": sorted(accounts), "others": others,
        "newest": max((one["createdAt"] for one in documents), default=None),
    }  # fmt: skip


def build_mark_updates(marks: Mapping[str, Any], *, now: datetime) -> list[Document]:
    """Return the updates that mark a batch's triggers, those of them that are not marked yet."""
    ends = {False: now + TRIGGER_RETENTION, True: now + JOB_RETENTION}
    updates: list[Document] = []
    for ids, is_job in ((marks["counted"], False), (marks["jobs"], True)):
        if ids:
            query = _build_waiting(ids, marks["accounts"])
            change = {"outcome": Outcome.COUNTED.value, "expireAt": ends[is_job]}
            updates.append({"q": query, "u": {"$set": change, "$unset": _DONE}, "multi": True})
    others: dict[tuple[str, bool], list[list[Any]]] = {}
    for one in marks["others"]:
        others.setdefault((one[3], one[2]), []).append(one)
    for (outcome, is_job), rows in others.items():
        # One statement looks each run up: a statement for each trigger takes twice as long.
        ids, runs = [one[0] for one in rows], [one[4] for one in rows]
        position = {"$indexOfArray": [{"$literal": ids}, "$_id"]}
        change = {
            "outcome": outcome, "expireAt": ends[is_job],
            "runId": {"$arrayElemAt": [{"$literal": runs}, position]},
        }  # fmt: skip
        query = _build_waiting(ids, {one[1] for one in rows})
        updates.append({"q": query, "u": [{"$set": change}, {"$unset": [*_DONE]}], "multi": True})
    for one in updates:
        one["q"]["createdAt"] = {"$lte": marks["newest"]}
        one["hint"] = "_id_"
    return updates


def build_move(documents: Sequence[Mapping[str, Any]]) -> Document:
    """Return the update that moves triggers out of the queue, into the lane beside it."""
    query = _build_waiting(
        [one["_id"] for one in documents], list({one["accountId"] for one in documents})
    )
    change = {"$set": {"partition": {"$subtract": [-1, "$partition"]}}}
    return {"q": query, "u": [change], "multi": True}


_DONE = {"partition": "", "metadata": ""}


def _build_waiting(trigger_ids: Collection[str], account_ids: Collection[str]) -> Document:
    return {
        "_id": {"$in": list(trigger_ids)}, "accountId": {"$in": list(account_ids)},
        "partition": {"$exists": True},
    }  # fmt: skip

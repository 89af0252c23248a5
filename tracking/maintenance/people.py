"""Where a person stands: the automations, and the documents in each. Reads only."""

from collections.abc import Iterator
from typing import Any

from pymongo.database import Database

from tracking.ids import build_account_range, build_contact_id
from tracking.mongo.errors import bounded

Document = dict[str, Any]

_SECONDS = 60.0
# Triggers have no index by person: those of an account, or all, are looked through.
_SCAN_SECONDS = 900.0
_AUTOMATIONS_PER_READ = 1000


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
            others = self._list_foreign(account_id)
            for trigger in self._find_triggers(account_id, user_id):
                if trigger["automationId"] not in others:
                    pairs.setdefault(trigger["automationId"], []).append(trigger["_id"])
            # By the indexes of runs and contacts: a key for each automation there is or was.
            known = {str(one["_id"]) for one in self._automations.find({}, {"_id": 1})}
            known |= {one for one in self._runs.distinct("automationId") if isinstance(one, str)}
            own = sorted(known - others)
            for start in range(0, len(own), _AUTOMATIONS_PER_READ):
                for found in self._find_among(own[start : start + _AUTOMATIONS_PER_READ], user_id):
                    pairs.setdefault(found, [])
        return pairs

    def list_documents(self, account_id: str | None, user_id: str) -> dict[str, list[Document]]:
        """Return everything stored of the person, by collection, the oldest first."""
        runs: list[Document] = []
        contacts: list[Document] = []
        triggers: list[Document] = []
        for automation_id, trigger_ids in self.list_pairs(account_id, user_id).items():
            pair = {"automationId": automation_id, "userId": user_id}
            contact_id = build_contact_id(automation_id, user_id)
            with bounded(_SECONDS):
                runs += self._runs.find(pair).sort("createdAt", 1)
                contacts += self._contacts.find({"_id": contact_id})
                triggers += self._triggers.find({"_id": {"$in": trigger_ids}}).sort("createdAt", 1)
        return {
            "automation_runs": runs, "automation_contacts": contacts,
            "automation_triggers": triggers,
        }  # fmt: skip

    def _list_foreign(self, account_id: str | None) -> set[str]:
        if account_id is None:
            return set()
        query = {"accountId": {"$nin": [account_id, None]}}
        return {str(one["_id"]) for one in self._automations.find(query, {"_id": 1})}

    def _find_triggers(self, account_id: str | None, user_id: str) -> Iterator[Document]:
        fields = {"automationId": 1}
        if account_id is None:
            yield from self._triggers.find({"userId": user_id}, fields)
            return
        # An engine that counts by itself names the workspace for the account.
        owners = {account_id, *self._automations.distinct("workspaceId", {"accountId": account_id})}
        for owner in owners:
            first, last = build_account_range(str(owner))
            query = {"_id": {"$gt": first, "$lt": last}, "userId": user_id}
            yield from self._triggers.find(query, fields)

    def _find_among(self, automation_ids: list[str], user_id: str) -> Iterator[str]:
        contact_ids = [build_contact_id(one, user_id) for one in automation_ids]
        yield from self._contacts.distinct("automationId", {"_id": {"$in": contact_ids}})
        query = {"automationId": {"$in": automation_ids}, "userId": user_id}
        yield from self._runs.distinct("automationId", query)

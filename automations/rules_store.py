"""The read behind the cache of active automations."""

from collections.abc import Mapping, Sequence
from typing import Any

from bson import decode
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database

from automations.definitions import parse_automation
from automations.matching import AccountRules
from automations.rules import LoadedRules
from tracking.mongo.errors import bounded

# Counters change with every run and are of no use to a rule.
_UNUSED = {"totalRuns": 0, "lastRunAt": 0, "updatedAt": 0}
_RAW = CodecOptions(document_class=RawBSONDocument)
_AWARE: CodecOptions[Mapping[str, Any]] = CodecOptions(tz_aware=True)


def load_rules(
    database: Database[dict[str, Any]],
    account_ids: Sequence[str],
    known: Mapping[str, LoadedRules],
    *,
    seconds: float,
) -> dict[str, LoadedRules]:
    """Return the rules of every account asked for; an account without automations has none.

    Where a workspace has the account (`add_account`), automations of others that name it are left
    out: they would get its people's messages, and send with its token. Documents that are to the
    byte what `known` was made from are not parsed again. Raises TrackingUnavailable when the read
    took longer than `seconds`.
    """
    found: dict[str, list[bytes]] = {account_id: [] for account_id in account_ids}
    collection = database["automations"].with_options(codec_options=_RAW)
    query = {"accountId": {"$in": list(account_ids)}, "isActive": True}
    with bounded(seconds):
        owners = _find_owners(database, account_ids)
        for document in collection.find(query, _UNUSED):
            account_id, workspace_id = document["accountId"], str(document.get("workspaceId"))
            if owners.get(account_id, workspace_id) == workspace_id:
                found[account_id].append(bytes(document.raw))
    loaded = {}
    for account_id, parts in found.items():
        source = tuple(sorted(parts))
        before = known.get(account_id)
        loaded[account_id] = (
            before if before is not None and before.source == source else _parse(source)
        )
    return loaded


def _find_owners(database: Database[dict[str, Any]], account_ids: Sequence[str]) -> dict[str, str]:
    accounts = database["accounts"].find({"_id": {"$in": list(account_ids)}}, {"workspaceId": 1})
    return {one["_id"]: str(one["workspaceId"]) for one in accounts if "workspaceId" in one}


def _parse(source: tuple[bytes, ...]) -> LoadedRules:
    parsed = [parse_automation(decode(one, codec_options=_AWARE)) for one in source]
    return LoadedRules(AccountRules([one for one in parsed if one is not None]), source)

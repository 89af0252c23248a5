"""The active automations of accounts, so that events cost no query."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from bson import decode

from automations.metrics import MATCHING_NOTHING
from automations.rules.automation import (
    Automation,
    parse_automation,
    read_scalar,
    read_workspace_id,
)
from automations.rules.matching import AccountRules, LoadedRules
from automations.rules.store import CAN_MATCH, LENIENT, RAW, find_owners
from tracking.exceptions import TrackingUnavailable
from tracking.ids import list_stored_forms
from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded

if TYPE_CHECKING:
    from pymongo import MongoClient

logger = logging.getLogger("automations")

READ_SECONDS = 3.0
# Rules are read again after the first; readers wait for that only after the second.
_FRESH_SECONDS = 0.5
_USABLE_SECONDS = 1.0
# An account that sent nothing for this long is not read ahead, and soon forgotten.
_USED_WITHIN_SECONDS = 10.0
_FORGOTTEN_AFTER_SECONDS = 600.0
_NEVER = float("-inf")
# Counters change with every run and are of no use to a rule.
_UNUSED = {"totalRuns": 0, "lastRunAt": 0, "updatedAt": 0}


# Reads the rules of every account asked for; unchanged ones may come from `known`.
Load = Callable[..., Mapping[str, LoadedRules]]


class _Entry(msgspec.Struct):
    loaded: LoadedRules
    loaded_at: float
    used_at: float


class RulesCache:
    """Rules by account. Changes of any program are seen within a second.

    One query reads all stale accounts in use. Meanwhile other threads go on with rules that are not
    a second old. Change streams were left out, because each would have to unwind every transaction
    that counts. An account without automations is kept like the others, so that it costs no more.
    """

    def __init__(self, load: Load, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    def get_rules(
        self, account_ids: Iterable[str], *, seconds: float = READ_SECONDS
    ) -> dict[str, AccountRules]:
        """Return the rules of each account, after at most one query.

        Raises TrackingUnavailable when that took longer than `seconds`.
        """
        wanted = set(account_ids)
        now = self._clock()
        if self._list_stale(wanted, now - _FRESH_SECONDS):
            self._read(wanted, now, seconds=seconds)
        rules = {}
        for account_id in wanted:
            entry = self._entries[account_id]
            entry.used_at = now
            rules[account_id] = entry.loaded.rules
        return rules

    def refresh(self) -> None:
        """Read the accounts in use again when they are next asked for."""
        with self._lock:
            for entry in self._entries.values():
                entry.loaded_at = _NEVER

    def _read(self, wanted: set[str], now: float, *, seconds: float) -> None:
        is_needed = bool(self._list_stale(wanted, now - _USABLE_SECONDS))
        # The thread that holds the lock may be waiting for MongoDB, so this one waits no longer.
        if not self._lock.acquire(timeout=max(seconds, 0.0) if is_needed else 0):
            if is_needed:
                raise TrackingUnavailable("the automations could not be read in time")
            return
        try:
            read_at = self._clock()  # before the read, so that a later change is not missed
            if self._list_stale(wanted, read_at - _FRESH_SECONDS):
                self._read_stale(wanted, read_at, seconds=seconds - (read_at - now))
        except TrackingUnavailable:
            if is_needed:
                raise
        finally:
            self._lock.release()

    def _read_stale(self, wanted: set[str], read_at: float, *, seconds: float) -> None:
        used_after = read_at - _FORGOTTEN_AFTER_SECONDS
        self._entries = {
            account_id: entry
            for account_id, entry in self._entries.items()
            if entry.used_at >= used_after or account_id in wanted
        }
        used_after = read_at - _USED_WITHIN_SECONDS
        used = {name for name, entry in self._entries.items() if entry.used_at >= used_after}
        stale = self._list_stale(used | wanted, read_at - _FRESH_SECONDS)
        known = {one: self._entries[one].loaded for one in stale if one in self._entries}
        for account_id, loaded in self._load(stale, known, seconds=seconds).items():
            # What is asked for is used now, so that no other thread forgets it before.
            used_at = read_at if account_id in wanted else self._entries[account_id].used_at
            self._entries[account_id] = _Entry(loaded, read_at, used_at)
        MATCHING_NOTHING.set(sum(one.loaded.left_out for one in self._entries.values()))

    def _list_stale(self, account_ids: Iterable[str], oldest: float) -> list[str]:
        entries = self._entries
        return [
            account_id
            for account_id in account_ids
            if (entry := entries.get(account_id)) is None or entry.loaded_at < oldest
        ]


def load_rules(
    account_ids: Sequence[str],
    known: Mapping[str, LoadedRules],
    *,
    seconds: float,
) -> dict[str, LoadedRules]:
    """Return the rules of every account asked for, none included.

    Automations of other workspaces than the account's are left out. Documents that are to the byte
    what `known` was made from are not parsed again. One that cannot be read costs itself only.
    Raises TrackingUnavailable when the read took longer than `seconds`.
    """
    found: dict[str, list[bytes]] = {account_id: [] for account_id in account_ids}
    database = mongo.get_database()
    collection = database["automations"].with_options(codec_options=RAW)
    forms = [form for account_id in account_ids for form in list_stored_forms(account_id)]
    with bounded(seconds):
        owners = find_owners(account_ids)
        for document in collection.find({"accountId": {"$in": forms}, **CAN_MATCH}, _UNUSED):
            named, workspace_id = document["accountId"], read_workspace_id(document)
            # A list of accounts matches none of them, and is counted for each.
            for value in named if isinstance(named, list) else [named]:
                account_id = read_scalar(value)
                if account_id in found and owners.get(account_id, workspace_id) == workspace_id:
                    found[account_id].append(bytes(document.raw))
    loaded = {}
    for account_id, parts in found.items():
        source = tuple(sorted(parts))
        before = known.get(account_id)
        loaded[account_id] = (
            before if before is not None and before.source == source else _parse(source)
        )
    return loaded


def _parse(source: tuple[bytes, ...]) -> LoadedRules:
    parsed = [one for one in map(_parse_one, source) if one is not None]
    return LoadedRules(AccountRules(parsed), source, len(source) - len(parsed))


def _parse_one(raw: bytes) -> Automation | None:
    try:
        return parse_automation(decode(raw, codec_options=LENIENT))
    except Exception:  # a bug of ours, on one document
        logger.exception("❌ [TRACKING] An automation cannot be read")
        return None


class _Held(msgspec.Struct):
    client: MongoClient[dict[str, Any]] | None = None
    rules: RulesCache | None = None


_held = _Held()


def get_rules_cache() -> RulesCache:
    """Return the cache of the client, a new one after a fork."""
    client = mongo.get_client()
    if _held.rules is None or _held.client is not client:
        _held.client = client
        _held.rules = RulesCache(load_rules)
    return _held.rules

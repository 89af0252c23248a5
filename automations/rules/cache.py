"""The active automations of accounts, so that events cost no query."""

import hashlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

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
from automations.rules.steps import PARTS
from automations.rules.store import CAN_MATCH, find_owners, get_raw_automations
from tracking.exceptions import TrackingUnavailable
from tracking.ids import list_all_forms
from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded

logger = logging.getLogger("automations")

READ_SECONDS = 3.0
# Rules are read again after the first; readers wait for that only after the second.
_FRESH_SECONDS = 0.5
_USABLE_SECONDS = 1.0
# An account that sent nothing for this long is not read ahead, and soon forgotten.
_USED_WITHIN_SECONDS = 10.0
_FORGOTTEN_AFTER_SECONDS = 600.0
_NEVER = float("-inf")
# What an account may take of every read. More is read by itself, and as much more seldom.
_HEAVY_BYTES = 1024 * 1024
# All that a rule is made of. An older product may hold anything beside it.
_USED = dict.fromkeys(
    ("accountId", "workspaceId", "type", "isActive", "trigger", "createdAt", *PARTS), 1
)


# Reads the rules of every account asked for; unchanged ones may come from `known`.
Load = Callable[..., Mapping[str, LoadedRules]]


class _Entry(msgspec.Struct):
    loaded: LoadedRules
    loaded_at: float
    used_at: float

    @property
    def weight(self) -> float:
        """How much heavier its account is than others may be, 1 for those that are not."""
        return max(1.0, self.loaded.size / _HEAVY_BYTES)


class RulesCache:
    """Rules by account. Changes of any program are seen within a second.

    One query reads all stale accounts in use. Meanwhile other threads go on with rules that are not
    a second old. Change streams were left out, because each would have to unwind every transaction
    that counts. An account without automations is kept like the others, so that it costs no more.
    A heavy one is waited for by its own deliveries alone.
    """

    def __init__(self, load: Load, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()
        # Of heavy accounts, each its own.
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def get_rules(
        self, account_ids: Iterable[str], *, seconds: float = READ_SECONDS
    ) -> dict[str, AccountRules]:
        """Return the rules of each account, after at most one query.

        Raises TrackingUnavailable when that took longer than `seconds`.
        """
        wanted = set(account_ids)
        now = self._clock()
        stale = self._list_stale(wanted, now, _FRESH_SECONDS)
        heavy = {one for one in stale if self._is_heavy(one)}
        if stale - heavy:
            self._read(wanted - heavy, now, self._lock, seconds=seconds)
        for one in heavy:
            self._read({one}, now, self._locks[one], seconds=seconds - (self._clock() - now))
        rules = {}
        for account_id in wanted:
            entry = self._entries[account_id]
            entry.used_at = now
            rules[account_id] = entry.loaded.rules
        return rules

    def refresh(self) -> None:
        """Read the accounts in use again when they are next asked for."""
        with self._lock:
            for entry in list(self._entries.values()):  # see _read_stale
                entry.loaded_at = _NEVER

    def _read(self, wanted: set[str], now: float, lock: threading.Lock, *, seconds: float) -> None:
        is_needed = bool(self._list_stale(wanted, now, _USABLE_SECONDS))
        # The thread that holds the lock may be waiting for MongoDB, so this one waits no longer.
        if not lock.acquire(timeout=max(seconds, 0.0) if is_needed else 0):
            if is_needed:
                raise TrackingUnavailable("the automations could not be read in time")
            return
        try:
            read_at = self._clock()  # before the read, so that a later change is not missed
            if self._list_stale(wanted, read_at, _FRESH_SECONDS):
                self._read_stale(wanted, read_at, seconds=seconds - (read_at - now))
        except TrackingUnavailable:
            if is_needed:
                raise
        finally:
            lock.release()

    def _read_stale(self, wanted: set[str], read_at: float, *, seconds: float) -> None:
        # A copy: heavy accounts are read by other threads at the same time.
        entries = list(self._entries.items())
        used_after = read_at - _FORGOTTEN_AFTER_SECONDS
        for account_id, entry in entries:
            if entry.used_at < used_after and account_id not in wanted:
                self._entries.pop(account_id, None)
                self._locks.pop(account_id, None)
        used_after = read_at - _USED_WITHIN_SECONDS
        used = {name for name, entry in entries if entry.used_at >= used_after}
        is_apart = any(map(self._is_heavy, wanted))
        light = set() if is_apart else {name for name in used if not self._is_heavy(name)}
        stale = self._list_stale(light | wanted, read_at, _FRESH_SECONDS)
        known = {name: entry.loaded for name, entry in entries if name in stale}
        for account_id, loaded in self._load(list(stale), known, seconds=seconds).items():
            # What is asked for is used now, so that no other thread forgets it before.
            used_at = read_at if account_id in wanted else self._entries[account_id].used_at
            self._entries[account_id] = _Entry(loaded, read_at, used_at)
        loaded_rules = [entry.loaded for _, entry in list(self._entries.items())]
        MATCHING_NOTHING.set(sum(one.left_out for one in loaded_rules))

    def _is_heavy(self, account_id: str) -> bool:
        entry = self._entries.get(account_id)
        return entry is not None and entry.weight > 1

    def _list_stale(self, account_ids: Iterable[str], now: float, seconds: float) -> set[str]:
        entries = self._entries
        return {
            account_id
            for account_id in account_ids
            if (entry := entries.get(account_id)) is None
            or entry.loaded_at < now - seconds * entry.weight
        }


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
    query = {"accountId": {"$in": list_all_forms(account_ids)}, **CAN_MATCH}
    with bounded(seconds):
        owners = find_owners(account_ids)
        for document in get_raw_automations(mongo.get_database()).find(query, _USED):
            named, workspace_id = document["accountId"], read_workspace_id(document)
            # A list of accounts matches none of them, and is counted for each.
            for value in named if isinstance(named, list) else [named]:
                account_id = read_scalar(value)
                if account_id in found and owners.get(account_id, workspace_id) == workspace_id:
                    found[account_id].append(bytes(document.raw))
    loaded = {}
    for account_id, parts in found.items():
        digest = hashlib.blake2b(b"".join(sorted(parts))).digest()
        before = known.get(account_id)
        loaded[account_id] = before if before and before.digest == digest else _parse(parts, digest)
    return loaded


def _parse(parts: Sequence[bytes], digest: bytes) -> LoadedRules:
    parsed = [one for one in map(_parse_one, parts) if one is not None]
    size = sum(map(len, parts))
    return LoadedRules(AccountRules(parsed), digest, size, len(parts) - len(parsed))


def _parse_one(raw: bytes) -> Automation | None:
    try:
        return parse_automation(decode(raw, codec_options=mongo.get_database().codec_options))
    except Exception:  # a bug of ours, on one document
        logger.exception("❌ [TRACKING] An automation cannot be read")
        return None


# The client in use and its cache.
_held: tuple[Any, RulesCache] = (None, RulesCache(load_rules))


def get_rules_cache() -> RulesCache:
    """Return the cache of the client, a new one after a fork."""
    global _held  # noqa: PLW0603
    client = mongo.get_client()
    if _held[0] is not client:
        _held = client, RulesCache(load_rules)
    return _held[1]

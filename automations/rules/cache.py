"""The active automations of an account, kept in memory so that no event costs a query."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Protocol

import msgspec
from pymongo import MongoClient

from automations.rules.matching import AccountRules, LoadedRules
from automations.rules.store import load_rules
from tracking.exceptions import TrackingUnavailable
from tracking.mongo import client as mongo

logger = logging.getLogger("automations")

FRESH_SECONDS = 1.0
REFRESH_SECONDS = 0.5
READ_SECONDS = 3.0
# An account that sent nothing for this long is refreshed no more, and soon forgotten.
_USED_WITHIN_SECONDS = 10.0
_FORGOTTEN_AFTER_SECONDS = 600.0


class Load(Protocol):
    """Reads the rules of accounts; what has not changed may be answered from `known`."""

    def __call__(
        self, account_ids: list[str], known: Mapping[str, LoadedRules], *, seconds: float
    ) -> Mapping[str, LoadedRules]:
        """Return the rules of every account asked for. Raises TrackingUnavailable in time."""


class _Entry(msgspec.Struct):
    loaded: LoadedRules
    loaded_at: float
    used_at: float


class RulesCache:
    """Rules by account. A change made by any program is seen within a second.

    While an account sends events, a thread reads its automations twice a second, all accounts in
    one query. Change streams were left out: each would have to unwind every flush's transaction.
    An account that no automation names is kept like the others, so that it costs no more.
    """

    def __init__(
        self,
        load: Load,
        *,
        clock: Callable[[], float] = time.monotonic,
        is_refreshing: bool = True,
    ) -> None:
        self._load = load
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()
        self._is_refreshing = is_refreshing
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def get_rules(
        self, account_ids: Iterable[str], *, seconds: float = READ_SECONDS
    ) -> dict[str, AccountRules]:
        """Return the rules of each account; at most one query, for those that are not fresh.

        Raises TrackingUnavailable when that took longer than `seconds`.
        """
        wanted = set(account_ids)
        now = self._clock()
        stale = self._list_stale(wanted, now)
        if stale:
            # Whoever reads may wait for a database that does not answer: nobody waits for both.
            if not self._lock.acquire(timeout=max(seconds, 0.0)):
                raise TrackingUnavailable("the automations could not be read in time")
            try:
                # Somebody else may have loaded them while this thread waited.
                waited = self._clock() - now
                self._read(self._list_stale(wanted, self._clock()), seconds=seconds - waited)
                for account_id in stale:
                    self._entries[account_id].used_at = now  # not forgotten before it is used
                self._start_thread()
            finally:
                self._lock.release()
        rules = {}
        for account_id in wanted:
            entry = self._entries[account_id]
            entry.used_at = now
            rules[account_id] = entry.loaded.rules
        return rules

    def close(self) -> None:
        """Stop refreshing; the cache still answers, reading by itself."""
        self._closed.set()

    def refresh(self) -> None:
        """Read the accounts in use again; forget those that are not."""
        with self._lock:
            now = self._clock()
            for account_id, entry in list(self._entries.items()):
                if entry.used_at < now - _FORGOTTEN_AFTER_SECONDS:
                    del self._entries[account_id]
            self._read([
                account_id
                for account_id, entry in self._entries.items()
                if entry.used_at >= now - _USED_WITHIN_SECONDS
            ], seconds=READ_SECONDS)  # fmt: skip

    def _read(self, account_ids: list[str], *, seconds: float) -> None:
        if not account_ids:
            return
        read_at = self._clock()  # before the read: a later change is not missed
        known = {one: self._entries[one].loaded for one in account_ids if one in self._entries}
        loaded = self._load(account_ids, known, seconds=seconds)
        for account_id in account_ids:
            entry = self._entries.get(account_id)
            if entry is None:
                self._entries[account_id] = _Entry(loaded[account_id], read_at, read_at)
            else:
                entry.loaded, entry.loaded_at = loaded[account_id], read_at

    def _list_stale(self, account_ids: Iterable[str], now: float) -> list[str]:
        entries = self._entries
        oldest = now - FRESH_SECONDS
        stale = []
        for account_id in account_ids:
            entry = entries.get(account_id)
            if entry is None or entry.loaded_at < oldest:
                stale.append(account_id)
        return stale

    def _start_thread(self) -> None:
        if self._thread is None and self._is_refreshing:
            self._thread = threading.Thread(target=self._run, name="rules", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._closed.wait(REFRESH_SECONDS):
            try:
                self.refresh()
            except Exception as error:  # noqa: BLE001 - deliveries read by themselves meanwhile
                logger.debug("Automations not refreshed: %s", type(error).__name__)


class _Held(msgspec.Struct):
    client: MongoClient[dict[str, Any]] | None = None
    rules: RulesCache | None = None


_held = _Held()


def get_rules_cache() -> RulesCache:
    """Return the cache of active automations; a new client, as after a fork, has a new cache."""
    client = mongo.get_client()
    if _held.rules is None or _held.client is not client:
        if _held.rules is not None:
            _held.rules.close()
        _held.client = client
        _held.rules = RulesCache(partial(load_rules, mongo.get_database()))
    return _held.rules

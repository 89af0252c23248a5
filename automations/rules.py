"""The active automations of an account, kept in memory so that no event costs a query."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from automations.matching import AccountRules

FRESH_SECONDS = 1.0

Load = Callable[[list[str]], Mapping[str, AccountRules]]


class _Entry(msgspec.Struct, frozen=True):
    rules: AccountRules
    loaded_at: float


class RulesCache:
    """Rules by account. A change made by any program is seen within a second.

    An account that no automation names is kept like the others: it is looked up at most once a
    second before its events are ignored.
    """

    def __init__(self, load: Load, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._loading = threading.Lock()

    def get_rules(self, account_ids: Iterable[str]) -> dict[str, AccountRules]:
        """Return the rules of each account; one query for all that are not fresh."""
        wanted = set(account_ids)
        stale = self._list_stale(wanted)
        if stale:
            with self._loading:
                # Somebody else may have loaded them while this thread waited.
                stale = self._list_stale(wanted)
                if stale:
                    loaded_at = self._clock()  # before the read: a later change is not missed
                    loaded = self._load(stale)
                    for account_id in stale:
                        self._entries[account_id] = _Entry(loaded[account_id], loaded_at)
        return {account_id: self._entries[account_id].rules for account_id in wanted}

    def clear(self) -> None:
        """Forget everything; the next event reads anew."""
        self._entries.clear()

    def _list_stale(self, account_ids: Iterable[str]) -> list[str]:
        oldest = self._clock() - FRESH_SECONDS
        entries: dict[str, Any] = self._entries
        return [
            account_id
            for account_id in account_ids
            if account_id not in entries or entries[account_id].loaded_at < oldest
        ]

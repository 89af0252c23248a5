"""Faults of the stand-in: scripted for the next calls, or for shares of all of them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from enum import Enum

from automations.demo.simulation.personas import make_random


class Fault(Enum):
    ERROR_500 = "500"  # answered 500, not carried out
    LOST = "lost"  # carried out, and the connection closed without an answer
    RESET = "reset"  # not carried out, and the connection closed without an answer
    SLOW = "slow"  # carried out, answered late
    TOKEN_DEAD = "190"  # noqa: S105 - an error code
    RATE = "613"


class Faults:
    """Chooses the fault of a call, by the seed and the call, whatever the order of calls."""

    def __init__(self, seed: int) -> None:
        self.slow_seconds = 1.0
        self.latency_seconds = 0.0  # of every call, half of it before it is carried out
        self.made: Counter[Fault] = Counter()
        self._seed = seed
        self._lock = threading.Lock()
        # A fault, and which calls it is for: where, account.
        self._script: list[tuple[Fault, str | None, str | None]] = []
        self._shares: dict[Fault | None, float] = {}
        self._attempts: Counter[str] = Counter()

    def script(
        self, fault: Fault | str, *, where: str | None = None, account_id: str | None = None
    ) -> None:
        """Make the next call fail; `where` is messages, replies or profile."""
        with self._lock:
            self._script.append((Fault(fault), where, account_id))

    def set_shares(self, shares: Mapping[str, float]) -> None:
        """Make these shares of all calls fail from now on: {"lost": 0.01}."""
        with self._lock:
            self._shares = {Fault(fault): share for fault, share in shares.items()}
            self._shares[None] = 1 - sum(shares.values())

    def choose(self, key: str, *, where: str, account_id: str) -> Fault | None:
        """Return the fault of a call, if any; `key` is the same for each of its attempts."""
        with self._lock:
            fault = self._choose_scripted(where, account_id) or self._choose_share(key)
            if fault is not None:
                self.made[fault] += 1
            return fault

    def _choose_scripted(self, where: str, account_id: str) -> Fault | None:
        for line in self._script:
            if line[1] in (None, where) and line[2] in (None, account_id):
                self._script.remove(line)
                return line[0]
        return None

    def _choose_share(self, key: str) -> Fault | None:
        if not self._shares:
            return None
        self._attempts[key] += 1
        rng = make_random(self._seed, key, self._attempts[key])
        return rng.choices(list(self._shares), list(self._shares.values()))[0]

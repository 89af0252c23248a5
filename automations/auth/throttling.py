"""How often a token may ask: so many requests a minute, spread as the caller likes.

Counted per process, in memory: with four web processes a token gets up to four times its share.
That bounds what one caller costs without a write to the database for every read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from automations.conf import conf

_MINUTE = 60.0
_MOST_KEYS = 100_000


class Limiter:
    """A leaky bucket for each key: full after a minute's worth at once, empty again in a minute.

    Kept as one number, the time at which the bucket will be empty (the generic cell rate
    algorithm, https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm). Thread-safe.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._empty_at: dict[str, float] = {}

    def take(self, key: str, *, per_minute: int) -> float:
        """Take one; return 0, or in how many seconds there will be one."""
        now = self._clock()
        with self._lock:
            empty_at = max(self._empty_at.get(key, now), now) + _MINUTE / per_minute
            wait = empty_at - now - _MINUTE
            if wait > 1e-6:
                return wait
            if len(self._empty_at) >= _MOST_KEYS:
                self._empty_at = {one: at for one, at in self._empty_at.items() if at > now}
            self._empty_at[key] = empty_at
        return 0.0


class TokenThrottle(BaseThrottle):
    """DRF's side: 429 with Retry-After for a token that asks more than API_REQUESTS_PER_MINUTE."""

    limiter = Limiter()

    def __init__(self) -> None:
        self._wait = 0.0

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Return whether the token of the request has one left."""
        per_minute = conf.requests_per_minute
        if not per_minute:
            return True
        self._wait = self.limiter.take(str(request.user.pk), per_minute=per_minute)
        return not self._wait

    def wait(self) -> float:
        """Return in how many seconds to ask again; DRF rounds up."""
        return self._wait

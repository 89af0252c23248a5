"""Meta's limits of an account, counted in rolling windows."""

from __future__ import annotations

from collections import deque

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """How many calls an account has."""

    private_replies_per_hour: int = 750
    messages_per_second: int = 100
    reads_per_second: int = 2


class RollingWindow:
    """The calls of the last so many seconds; `at` is a time in seconds that does not go back."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most = most
        self.peak = 0
        self._seconds = seconds
        self._times: deque[float] = deque()

    def take(self, at: float) -> bool:
        """Count one more call and return True; False if there is no room for it."""
        if self.count(at) >= self.most:
            return False
        self._times.append(at)
        self.peak = max(self.peak, len(self._times))
        return True

    def count(self, at: float) -> int:
        """Return how many calls there were in the window that ends at `at`."""
        while self._times and self._times[0] <= at - self._seconds:
            self._times.popleft()
        return len(self._times)

    def find_wait(self, at: float) -> float:
        """Return in how many seconds there is room again."""
        return max(0.0, self._times[0] + self._seconds - at) if self.count(at) >= self.most else 0.0

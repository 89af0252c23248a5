"""Waiting in tests for what other threads and processes do."""

import time
from collections.abc import Callable


def wait_until(
    is_true: Callable[[], object], *, seconds: float = 15.0, what: Callable[[], str] = str
) -> float:
    """Return how many seconds it took. The AssertionError says `what` did not come."""
    started = time.monotonic()
    while not is_true():
        assert time.monotonic() < started + seconds, f"not within {seconds:g} s {what()}"
        time.sleep(0.01)
    return time.monotonic() - started

"""Waiting in tests for what other threads and processes do."""

import time
from collections.abc import Callable


def wait_until(is_true: Callable[[], object], *, seconds: float = 15.0) -> float:
    """Return how many seconds it took."""
    started = time.monotonic()
    while not is_true():
        assert time.monotonic() < started + seconds, f"not within {seconds:g} s"
        time.sleep(0.01)
    return time.monotonic() - started

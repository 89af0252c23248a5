"""Waiting in tests for what other threads and processes do."""

import time
from collections.abc import Callable


def wait_until(is_true: Callable[[], object], *, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.05)

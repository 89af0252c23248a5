"""Threads that work beside a run until they are told to stop."""

import threading
import time
from collections.abc import Callable
from typing import Self


class Background:
    """Runs each of `works`, which look at `stopping`. Use it as a context."""

    started_at = ended_at = 0.0  # monotonic; the clock of the stalls

    def __init__(self, *works: Callable[[], None]) -> None:
        self.stopping = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in works]

    def __enter__(self) -> Self:
        self.started_at = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join()
        self.ended_at = time.monotonic()

"""Progress of a long command: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from django.core.management.base import OutputWrapper
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_EVERY_SECONDS = 5.0


class Advance(Protocol):
    """Called after each step with the number of units it did."""

    def __call__(self, units: int) -> None:
        """Take note of `units` more."""


@contextmanager
def show_progress(label: str, total: int, stream: OutputWrapper) -> Iterator[Advance]:
    """Show how far a command is; the value is called with the units done since the last call."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(label, total=total)
            yield lambda units: progress.advance(task, units)
        return
    done = 0
    written_at = time.monotonic()

    def advance(units: int) -> None:
        nonlocal done, written_at
        done += units
        if time.monotonic() - written_at >= _LINE_EVERY_SECONDS:
            written_at = time.monotonic()
            stream.write(f"{label}: {done} of {total}")

    yield advance

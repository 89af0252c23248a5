"""The base of commands that work until SIGTERM or Ctrl-C."""

import argparse
import signal
import time
from collections.abc import Callable
from typing import Any

from automations.operations.process_watch import die_with_parent, end_if_stuck
from tracking.management.database_command import DatabaseCommand, option
from tracking.mongo import client as mongo

# Longer than a worker takes to end in order, and a counter to set many bad triggers apart.
_STUCK_SECONDS = 60.0
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class ProcessCommand(DatabaseCommand):
    """Any number may run, anywhere; `serve` starts some itself, with `--parent`."""

    arguments = {"--parent": option(argparse.SUPPRESS, type=int)}
    has_parent = False

    def prepare(self) -> tuple[str, Callable[[], None], Callable[[], None]]:
        """Return what is said at start, what does the work, and what makes that return."""
        raise NotImplementedError

    def watch(self, find_turn: Callable[[], float]) -> None:
        """Let `serve` replace this process when the loop of its work does not come round."""
        if self.has_parent:
            end_if_stuck(lambda: time.monotonic() - find_turn(), seconds=_STUCK_SECONDS)

    def run(self, **options: Any) -> None:
        if options["parent"]:
            self.has_parent = True
            die_with_parent(options["parent"])
        state, work, stop = self.prepare()
        before = {number: signal.signal(number, lambda *_: stop()) for number in _STOP_SIGNALS}
        if not options["parent"]:
            self.stdout.write(f"{state}. Stop with Ctrl-C.")
            self.stdout.flush()
        try:
            work()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            mongo.close()

"""`run_counter`: counts the triggers that the webhook stores, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import gc
import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from automations.operations.parent_watch import die_with_parent
from tracking import service
from tracking.conf import conf
from tracking.exceptions import TrackingError
from tracking.mongo import client as mongo

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Command(BaseCommand):
    """Counts; counters share the automations evenly. `serve` runs one itself."""

    help = (
        "Count the triggers that wait. Any number of counters may run, on any machine; they share "
        "the automations, and one that ends hands its share to the others at once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the option that `serve` passes to its own counters."""
        parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)

    def handle(self, **options: Any) -> None:
        """Count until told to stop. Raises CommandError when there is no MongoDB to use."""
        if options["parent"]:
            die_with_parent(options["parent"])
        try:
            mongo.get_database()
        except TrackingError as error:
            raise CommandError(str(error)) from error
        stop = threading.Event()
        before = {number: signal.signal(number, lambda *_: stop.set())
                  for number in _STOP_SIGNALS}  # fmt: skip
        if not options["parent"]:
            state = "on" if conf.is_enabled else "off: TRACKING_ENABLED says so, triggers wait"
            self.stdout.write(f"Counting is {state}. Stop with Ctrl-C.")
            self.stdout.flush()
        # What is loaded now stays: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        try:
            service.run_counter(stop)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            mongo.close()

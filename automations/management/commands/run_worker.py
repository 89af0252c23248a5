"""`run_worker`: sends what the webhook has queued, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from automations.conf import conf
from automations.operations.parent_watch import die_with_parent
from automations.outbox.wiring import build_worker
from automations.privacy.deletion_requests import run_deletions
from tracking.exceptions import TrackingError
from tracking.mongo import client as mongo

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_DELETIONS_SECONDS = 5.0
_MODES = {
    "off": "off: jobs stay queued until their window ends",
    "shadow": "shadow: everything except the calls",
    "on": "on",
    "": "on for accounts with a token, else shadow",
}


class Command(BaseCommand):
    """Any number may run, anywhere; `serve` runs one itself."""

    help = (
        "Send the messages that automations have queued. Any number of workers may run, on any "
        "machine; SIGTERM lets running calls finish."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        # Only for the worker that `serve` starts.
        parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)

    def handle(self, **options: Any) -> None:
        if options["parent"]:
            die_with_parent(options["parent"])
        try:
            worker = build_worker()
        except TrackingError as error:
            raise CommandError(str(error)) from error
        before = {
            number: signal.signal(number, lambda *_: worker.stop()) for number in _STOP_SIGNALS
        }
        if not options["parent"]:
            self.stdout.write(f"Sending is {_MODES[conf.sending]}. Stop with Ctrl-C.")
            self.stdout.flush()
        stop = threading.Event()
        # It may take minutes to end, so it is not waited for; an erasure can be repeated.
        deletions = threading.Thread(
            target=run_deletions, args=(stop,), name="deletions", daemon=True
        )
        deletions.start()
        try:
            worker.run()
        finally:
            stop.set()
            deletions.join(_DELETIONS_SECONDS)
            for number, handler in before.items():
                signal.signal(number, handler)
            mongo.close()

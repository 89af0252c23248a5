"""`run_worker`: sends what the webhook has queued, until SIGTERM or Ctrl-C."""

import threading
from collections.abc import Callable

from automations.conf import conf
from automations.management.process import ProcessCommand
from automations.outbox.worker import Worker
from automations.privacy.deletion_requests import run_deletions

_DELETIONS_SECONDS = 5.0
_MODES = {
    "off": "off: jobs stay queued until their window ends",
    "shadow": "shadow: everything except the calls",
    "on": "on",
    "": "on for accounts with a token, else shadow",
}


class Command(ProcessCommand):
    help = (
        "Send the messages that automations have queued. Any number of workers may run, on any "
        "machine; SIGTERM lets running calls finish."
    )

    def prepare(self) -> tuple[str, Callable[[], None], Callable[[], None]]:
        worker = Worker()
        self.watch(lambda: worker.turned_at)

        def work() -> None:
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

        return f"Sending is {_MODES[conf.sending]}", work, worker.stop

"""`run_counter`: counts the triggers that the webhook stores, until SIGTERM or Ctrl-C."""

import gc
import threading
from collections.abc import Callable
from functools import partial

from automations.management.process import ProcessCommand
from tracking import service
from tracking.conf import conf
from tracking.mongo import client as mongo


class Command(ProcessCommand):
    help = (
        "Count the triggers that wait. Any number of counters may run, on any machine; they share "
        "the automations, and one that ends hands its share to the others at once."
    )

    def prepare(self) -> tuple[str, Callable[[], None], Callable[[], None]]:
        mongo.get_database()
        # What is loaded now stays: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        stop = threading.Event()
        state = "on" if conf.is_enabled else "off: TRACKING_ENABLED says so, triggers wait"
        return f"Counting is {state}", partial(service.run_counter, stop, self.watch), stop.set

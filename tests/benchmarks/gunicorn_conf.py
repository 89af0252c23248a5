"""What granian's processes get from `automations.operations.webserver`, for gunicorn's."""

import gc
from typing import Any

keepalive = 60


def post_worker_init(worker: Any) -> None:
    """Keep what is loaded out of the collector, in the process that answers."""
    gc.collect()
    gc.freeze()

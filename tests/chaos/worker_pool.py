"""`python -m tests.chaos.worker_pool <workers> <haste>`: workers to kill, replaced at once.

A parent that has imported everything forks them, which costs a tenth of a start from nothing; what
a worker holds (connections, threads, its name) it makes itself, as `manage.py run_worker` does.
`haste` divides the times for which the product waits, so that a short run sees them end.
"""

import gc
import os
import random
import signal
import sys
import time
import traceback
from datetime import timedelta

import django

django.setup()

from automations.operations.process_watch import die_with_parent  # noqa: E402
from automations.outbox import lanes, reporting, transitions, worker  # noqa: E402
from automations.outbox import store as outbox_store  # noqa: E402
from automations.outbox.worker import Worker  # noqa: E402
from tracking.exceptions import TrackingUnavailable  # noqa: E402

_WAITS = (
    (outbox_store, "LEASE"),
    (worker, "_SWEEP_SECONDS"),
    (worker, "_LATE_SECONDS"),
    (reporting, "_LATE"),
    (transitions, "_PRIVATE_RETRY_WAIT"),
    (lanes, "_FIRST_BACK_OFF"),
)
_REST_SECONDS = 0.1


def main() -> None:
    """Keep so many workers alive until SIGTERM, then end them in order."""
    count, haste = int(sys.argv[1]), float(sys.argv[2])
    for module, name in _WAITS:
        wait = getattr(module, name)
        setattr(module, name, shorten(wait, haste))
    gc.freeze()  # children share the pages of what is never freed
    parent = os.getppid()
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    children: set[int] = set()
    while not stopping and os.getppid() == parent:
        while len(children) < count and not stopping:
            children.add(fork_worker())
        ended, _ = os.waitpid(-1, os.WNOHANG)
        children.discard(ended)
        if not ended:
            time.sleep(_REST_SECONDS / 10)
    for pid in children:
        os.kill(pid, signal.SIGTERM)
    for pid in children:
        os.waitpid(pid, 0)


def shorten(wait: float | timedelta, haste: float) -> float | timedelta:
    """Return a wait divided, in whole milliseconds where MongoDB works with it."""
    if isinstance(wait, timedelta):
        return timedelta(milliseconds=round(wait / timedelta(milliseconds=1) / haste))
    return wait / haste


def fork_worker() -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with_parent(parent)
        random.seed()  # the parent's state would give every worker the same jitter
        one = Worker()
        signal.signal(signal.SIGTERM, lambda *_: one.stop())
        one.run()
    except TrackingUnavailable:
        time.sleep(_REST_SECONDS)
    except BaseException:  # noqa: BLE001 - said, and another one is started
        traceback.print_exc()
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()

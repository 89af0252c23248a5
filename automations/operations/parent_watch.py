"""A child process that ends with its parent, however the parent ends.

The parent's id is watched, which works with fork and spawn, on Linux and macOS; PR_SET_PDEATHSIG
is Linux alone, and fires when the parent's *thread* ends.
"""

import os
import signal
import threading
import time

_LOOK_EVERY_SECONDS = 0.25


def die_with_parent(parent_pid: int) -> None:
    """Kill this process within half a second after `parent_pid` is no longer its parent.

    By then nobody could stop it in order; what it had acknowledged is committed.
    """
    threading.Thread(target=_watch, args=(parent_pid,), name="lifeline", daemon=True).start()


def _watch(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(_LOOK_EVERY_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)

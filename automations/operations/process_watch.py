"""Processes that end with their parent, when they are stuck, or when a signal stopped them.

The parent's id is watched, which works with fork and spawn, on Linux and macOS; PR_SET_PDEATHSIG
is Linux alone, and fires when the parent's *thread* ends.
"""

import faulthandler
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

logger = logging.getLogger("automations.serve")

_LOOK_EVERY_SECONDS = 0.25
# So long no thread of the process runs Python, or a signal holds it.
_FROZEN_SECONDS = 10.0
# What still moves in a process that is stuck may end within this.
_GRACE_SECONDS = 2.0


def die_with_parent(parent_pid: int) -> None:
    """Kill this process within half a second after `parent_pid` is no longer its parent.

    By then nobody could stop it in order; what it had acknowledged is committed.
    """
    threading.Thread(target=_watch, args=(parent_pid,), name="lifeline", daemon=True).start()


def _watch(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(_LOOK_EVERY_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def end_if_stuck(find_age: Callable[[], float], *, seconds: float) -> None:
    """End this process, with a trace, once `find_age` is past `seconds`, or Python is stuck."""
    threading.Thread(target=_look, args=(find_age, seconds), name="watch", daemon=True).start()


def _look(find_age: Callable[[], float], seconds: float) -> None:
    # faulthandler's timer needs no Python: it goes off where a thread keeps the interpreter.
    faulthandler.dump_traceback_later(_FROZEN_SECONDS, exit=True)
    while find_age() <= seconds:
        time.sleep(1)
        faulthandler.dump_traceback_later(_FROZEN_SECONDS, exit=True)
    faulthandler.dump_traceback_later(_GRACE_SECONDS + 1, exit=True)
    logger.error("❌ Process %d is stuck for %d s; it is replaced", os.getpid(), seconds)
    faulthandler.dump_traceback()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)


class StoppedChildren:
    """Children that a signal stopped and nothing continues; they would keep their connections."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    def kill(self, pids: Iterable[int]) -> None:
        """Kill those of `pids` that were found stopped for long enough."""
        now = time.monotonic()
        self._since = {pid: self._since.get(pid, now) for pid in pids if _is_stopped(pid)}
        for pid, since in self._since.items():
            if now - since >= _FROZEN_SECONDS:
                logger.error("❌ Process %d was stopped by a signal; it is replaced", pid)
                os.kill(pid, signal.SIGKILL)


def _is_stopped(pid: int) -> bool:
    with suppress(ChildProcessError):
        return os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
    return False

"""The embedded MongoDB of a data directory: one mongod, held by one process, used by many.

For trial, development and tests: production has MONGODB_URI.
"""

from __future__ import annotations

import atexit
import os
import threading
from pathlib import Path

from tracking.embedded.keeper import Keeper
from tracking.embedded.mongod import find_mongod
from tracking.exceptions import TrackingUnavailable

_keepers: dict[Path, Keeper] = {}
_keepers_lock = threading.Lock()


def ensure_running(data_dir: Path, *, test_commands: bool = False) -> str:
    """Return the URI of the directory's server, starting it when nobody runs it.

    Cheap to repeat: after the first call of a process it does no input or output. The port in the
    URI changes only when something else took it while the server was down. `test_commands` lets
    tests set fail points; it counts only where this call is what starts the server.

    Raises MongoNotConfigured where there is no mongod to start, TrackingUnavailable when it does
    not start.
    """
    key = data_dir.absolute()
    keeper = _keepers.get(key)
    if keeper is None or keeper.address is None:
        with _keepers_lock:
            keeper = _keepers.get(key) or _start_keeper(key, test_commands=test_commands)
    if keeper.address is None:
        raise TrackingUnavailable(f"The embedded MongoDB of {data_dir} is not running.")
    return keeper.address.build_uri()


def is_holder(data_dir: Path) -> bool:
    """Say whether this process is the one whose child the server is."""
    keeper = _keepers.get(data_dir.absolute())
    return keeper is not None and keeper.is_holder


def stop(data_dir: Path | None = None) -> None:
    """Give up the share in one directory's server, or in all; the holder ends its mongod."""
    with _keepers_lock:
        leaving = [key for key in _keepers if data_dir is None or key == data_dir.absolute()]
        for key in leaving:
            _keepers.pop(key).stop()


def _start_keeper(data_dir: Path, *, test_commands: bool) -> Keeper:
    program = find_mongod()
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        # The real path: leftovers are recognised by the path on mongod's command line.
        keeper = Keeper(data_dir.resolve(), program=program, test_commands=test_commands)
    except OSError as error:
        raise TrackingUnavailable(f"The data directory cannot be used: {error}.") from error
    # Before it starts, so that a fork in the meantime finds the lock it has to let go of.
    _keepers[data_dir] = keeper
    try:
        keeper.start()
    except BaseException:
        del _keepers[data_dir]
        raise
    return keeper


def _forget_after_fork() -> None:
    # The thread stayed in the parent; the child's first ensure_running() makes its own.
    global _keepers_lock  # noqa: PLW0603 - whoever held the parent's lock is not in the child
    _keepers_lock = threading.Lock()
    for keeper in _keepers.values():
        keeper.leave_after_fork()
    _keepers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
atexit.register(stop)

"""One process's share in the embedded MongoDB of a data directory.

Whoever has the lock `owner.lock` runs mongod as its child; the others read from `mongod.json`
where it listens, and watch the lock, so that when the holder goes, however it goes, another one
starts mongod on the same directory and port.
"""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

import msgspec

from tracking.embedded import mongod, replica_set
from tracking.exceptions import TrackingError, TrackingUnavailable

if sys.platform != "win32":  # where find_mongod() refuses long before a lock is needed
    import fcntl

DATABASE_NAME = "instagram_automations"
# A start takes one. Where something silent listens on the port that the set was last known by,
# mongod first waits 30 s to learn that it is not itself.
START_SECONDS = 60.0
_POLL_SECONDS = 0.1
_RETRY_SECONDS = 1.0
# A second one, because the port may be taken between our look at it and mongod's.
_ATTEMPTS = 2

logger = logging.getLogger(__name__)


class Address(msgspec.Struct, frozen=True):
    """Where the server of a data directory listens; kept for the directory's life."""

    port: int
    replica_set: str

    def build_uri(self) -> str:
        """Return the URI that every process connects with."""
        return f"mongodb://{mongod.HOST}:{self.port}/{DATABASE_NAME}?replicaSet={self.replica_set}"


class Keeper:
    """This process's share in the server of one data directory."""

    def __init__(self, data_dir: Path, *, program: Path, test_commands: bool) -> None:
        self.is_holder = False
        self.address: Address | None = None
        self.error: TrackingError | None = None
        self._data_dir = data_dir
        self._program = program
        self._test_commands = test_commands
        self._state_path = data_dir / "mongod.json"
        self._lock_file: IO[bytes] = (data_dir / "owner.lock").open("ab")
        self._is_settled = threading.Event()
        self._is_stopping = threading.Event()
        # mongod is killed when the thread that started it ends, so one thread starts it and lives
        # as long as the process.
        self._thread = threading.Thread(target=self._run, name="embedded-mongodb", daemon=True)

    def start(self) -> None:
        """Return once the server answers. Raises TrackingUnavailable with the reason."""
        self._thread.start()
        try:
            self._is_settled.wait(START_SECONDS + mongod.STOP_SECONDS)
            if self.address is None:
                raise self.error or TrackingUnavailable(self._explain_silence())
        except BaseException:  # Ctrl-C included: nothing of it may stay behind
            self.stop()
            raise

    def stop(self) -> None:
        """End the thread and, when this process holds it, the server."""
        self._is_stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._lock_file.close()

    def leave_after_fork(self) -> None:
        """Let go of the parent's lock without releasing it: the open file is shared."""
        self._lock_file.close()

    def _run(self) -> None:
        failures = 0
        deadline = time.monotonic() + START_SECONDS
        while not self._is_stopping.is_set():
            try:
                if self.is_holder or self._acquire():
                    self._hold()
                else:
                    self._follow()
                    if self.address is None and time.monotonic() > deadline:
                        raise TrackingUnavailable(self._explain_silence())
                self._is_stopping.wait(_POLL_SECONDS)
            except (TrackingError, OSError) as error:
                failures += 1
                if self.address is not None:
                    logger.error("❌ [TRACKING] %s", error)
                    self._is_stopping.wait(_RETRY_SECONDS)
                elif failures == _ATTEMPTS:
                    self._give_up(error)

    def _acquire(self) -> bool:
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self.is_holder = True
        return True

    def _follow(self) -> None:
        address = self._read_state()
        if address is None or address == self.address:
            return
        if replica_set.is_primary(port=address.port, replica_set=address.replica_set):
            self._settle(address)

    def _hold(self) -> None:
        mongod.kill_leftover(self._data_dir)
        address = self._choose_address()
        self._write_state(address)
        process = mongod.start_mongod(
            self._program,
            data_dir=self._data_dir,
            port=address.port,
            replica_set=address.replica_set,
            test_commands=self._test_commands,
        )
        try:
            self._await_primary(process, address)
            self._settle(address)
            logger.info("Embedded MongoDB listens on %s:%d", mongod.HOST, address.port)
            while process.poll() is None:
                if self._is_stopping.wait(_POLL_SECONDS):
                    return
            logger.warning("Embedded MongoDB ended by itself; starting it again")
        finally:
            mongod.stop_mongod(process)

    def _choose_address(self) -> Address:
        known = self._read_state()
        if known is None:
            return Address(mongod.choose_port(), f"embedded-{secrets.token_hex(4)}")
        if mongod.is_port_free(known.port):
            return known
        return Address(mongod.choose_port(), known.replica_set)

    def _await_primary(self, process: subprocess.Popen[bytes], address: Address) -> None:
        deadline = time.monotonic() + START_SECONDS
        is_up = replica_set.ensure_primary(
            port=address.port,
            replica_set=address.replica_set,
            is_given_up=lambda: (
                process.poll() is not None
                or self._is_stopping.is_set()
                or time.monotonic() > deadline
            ),
        )
        if not is_up:
            raise TrackingUnavailable(self._explain_silence())

    def _explain_silence(self) -> str:
        said = ""
        output = self._data_dir / "mongod.out"
        if output.is_file():
            said = output.read_text(errors="replace").strip()[-300:]
        return (
            f"The embedded MongoDB of {self._data_dir} does not answer; see "
            f"{self._data_dir / 'mongod.log'}{f' ({said})' if said else ''}, or set MONGODB_URI."
        )

    def _settle(self, address: Address) -> None:
        self.address = address
        self._is_settled.set()

    def _give_up(self, error: Exception) -> None:
        self.error = error if isinstance(error, TrackingError) else TrackingUnavailable(str(error))
        self._is_stopping.set()
        self._is_settled.set()

    def _read_state(self) -> Address | None:
        try:
            return msgspec.json.decode(self._state_path.read_bytes(), type=Address)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _write_state(self, address: Address) -> None:
        draft = self._state_path.with_suffix(f".{os.getpid()}")
        draft.write_bytes(msgspec.json.encode(address))
        draft.replace(self._state_path)

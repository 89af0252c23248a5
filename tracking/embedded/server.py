"""The embedded MongoDB of a data directory, for trial, development and tests.

The process that holds the lock on `owner.lock` runs mongod as its child. Other processes read from
`mongod.json` where it listens. mongod ends with its owner; the next call starts it again.
"""

import atexit
import os
import secrets
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import msgspec

from tracking.embedded import mongod
from tracking.exceptions import TrackingUnavailable

if sys.platform != "win32":  # find_mongod() has refused before a lock is needed
    import fcntl

DATABASE_NAME = "instagram_automations"
# A start takes half a second. Where something silent listens on the last known port, mongod first
# waits 30 s to learn that it is not itself.
START_SECONDS = 60.0
# How long the last owner's mongod may take to die, and its port to become free.
_DEATH_SECONDS = 5.0
_PORT_SECONDS = 0.5
_POLL_SECONDS = 0.02
_STOP_SECONDS = 10.0


class Address(msgspec.Struct, frozen=True):
    """Where the server of a data directory listens; kept for the directory's life."""

    port: int
    replica_set: str

    @property
    def uri(self) -> str:
        return f"mongodb://{mongod.HOST}:{self.port}/{DATABASE_NAME}?replicaSet={self.replica_set}"


class Server:
    def __init__(self, data_dir: Path, *, test_commands: bool) -> None:
        self._program = mongod.find_mongod()
        self._data_dir = data_dir
        self._test_commands = test_commands
        self._address: Address | None = None
        self._process: subprocess.Popen[bytes] | None = None
        data_dir.mkdir(parents=True, exist_ok=True)
        self._lock_file = (data_dir / "owner.lock").open("ab")

    def ensure_running(self) -> str:
        deadline = time.monotonic() + START_SECONDS
        while not _lock(self._lock_file.fileno()):
            known = self._address or self._read_address()
            if known and (self._address or mongod.is_primary(known.port, known.replica_set)):
                self._address = known
                return known.uri
            if time.monotonic() > deadline:
                raise TrackingUnavailable(self._explain_silence())
            time.sleep(_POLL_SECONDS)
        if self._address is None or self._process is None or self._process.poll() is not None:
            self._address = self._start()
        return self._address.uri

    def stop(self) -> None:
        """End mongod, by force at last, if this process owns it; then give up the lock."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._lock_file.close()

    def leave_after_fork(self) -> None:
        """Close the lock file without unlocking it, because the parent shares it."""
        self._lock_file.close()

    def _start(self) -> Address:
        if not mongod.wait_until(self._is_released, seconds=_DEATH_SECONDS):
            raise TrackingUnavailable(
                f"Another mongod runs on {self._data_dir}; end it, or choose another DATA_DIR."
            )
        address = self._choose_address()
        draft = self._data_dir / "mongod.json.draft"
        draft.write_bytes(msgspec.json.encode(address))
        draft.replace(self._data_dir / "mongod.json")
        self._process = self._spawn(address)
        if not mongod.ensure_primary(
            self._process, address.port, address.replica_set, seconds=START_SECONDS
        ):
            raise TrackingUnavailable(self._explain_silence())
        return address

    def _is_released(self) -> bool:
        """Say whether the last owner's mongod, killed with its owner, has let go of its files."""
        try:
            with (self._data_dir / "db" / "mongod.lock").open("rb+") as lock:
                return _lock(lock.fileno())
        except FileNotFoundError:
            return True

    def _choose_address(self) -> Address:
        known = self._read_address()
        if known is None:
            return Address(mongod.choose_port(), f"embedded-{secrets.token_hex(4)}")
        if mongod.wait_until(lambda: mongod.is_port_free(known.port), seconds=_PORT_SECONDS):
            return known
        return Address(mongod.choose_port(), known.replica_set)

    def _spawn(self, address: Address) -> subprocess.Popen[bytes]:
        """Start mongod in a thread of its own, because it is killed when that thread ends."""
        started: Future[subprocess.Popen[bytes]] = Future()

        def run() -> None:
            try:
                process = mongod.start_mongod(
                    self._program,
                    data_dir=self._data_dir,
                    port=address.port,
                    replica_set=address.replica_set,
                    test_commands=self._test_commands,
                )
            except OSError as error:
                started.set_exception(error)
            else:
                started.set_result(process)
                with suppress(ChildProcessError):  # poll() was first
                    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

        threading.Thread(target=run, name="embedded-mongodb", daemon=True).start()
        return started.result()

    def _read_address(self) -> Address | None:
        try:
            return msgspec.json.decode((self._data_dir / "mongod.json").read_bytes(), type=Address)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _explain_silence(self) -> str:
        output = self._data_dir / "mongod.out"
        said = output.read_text(errors="replace").strip()[-300:] if output.is_file() else ""
        return (
            f"The embedded MongoDB of {self._data_dir} does not answer; see "
            f"{self._data_dir / 'mongod.log'}{f' ({said})' if said else ''}, or set MONGODB_URI."
        )


_servers: dict[Path, Server] = {}
_servers_lock = threading.Lock()


def ensure_running(data_dir: Path, *, test_commands: bool = False) -> str:
    """Return the URI of the directory's server, starting it when no process runs it.

    A repeated call costs two system calls. The port in the URI changes only when something else
    took it while the server was down. `test_commands` lets tests set fail points; it counts only
    where this call starts the server.

    Raises MongoNotConfigured where there is no mongod to start, TrackingUnavailable when it does
    not start.
    """
    key = data_dir.absolute()
    with _servers_lock:
        try:
            if key not in _servers:
                _servers[key] = Server(key, test_commands=test_commands)
            return _servers[key].ensure_running()
        except BaseException as error:  # Ctrl-C too: no half-started server may stay behind
            if key in _servers:
                _servers.pop(key).stop()
            if isinstance(error, OSError):
                raise TrackingUnavailable(f"The data directory cannot be used: {error}.") from error
            raise


def stop(data_dir: Path | None = None) -> None:
    """Detach from one directory's server, or from all; an owner ends its mongod."""
    with _servers_lock:
        for key in [key for key in _servers if data_dir is None or key == data_dir.absolute()]:
            _servers.pop(key).stop()


def _lock(descriptor: int) -> bool:
    """Take the exclusive lock, unless another process has it; to repeat it is harmless."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _forget_after_fork() -> None:
    global _servers_lock  # noqa: PLW0603 - a thread that held the lock is not in the child
    _servers_lock = threading.Lock()
    for server in _servers.values():
        server.leave_after_fork()
    _servers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
atexit.register(stop)

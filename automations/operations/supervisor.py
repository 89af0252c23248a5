"""The processes of one `serve`: started together, restarted when they die, stopped in order."""

import logging
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import FrameType

import msgspec

from automations.operations.process_watch import StoppedChildren

logger = logging.getLogger("automations.serve")

_TICK_SECONDS = 0.1
# granian gives its own processes 5 s; whoever is left after this is killed.
_STOP_SECONDS = 8.0
# A child that dies this young, this often in a row, cannot be helped by starting it again.
_YOUNG_SECONDS = 5.0
_MOST_YOUNG_DEATHS = 5
_LONGEST_WAIT = 5.0
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """A process to keep running: its name in the log, and how to start it."""

    name: str
    command: Sequence[str]
    directory: Path
    # Asked at every start: what it says may change.
    build_environment: Callable[[], Mapping[str, str]]
    # Where its log goes, appended; None is wherever ours goes.
    log_path: Path | None = None
    # How long it may take to end; None is what every child has.
    stop_seconds: float | None = None
    # Whether nothing is of use without it; one that is not may keep ending, and is started again.
    is_vital: bool = True


class _Running:
    def __init__(self, child: Child) -> None:
        self.child = child
        self.young_deaths = 0
        self.restart_at: float | None = None
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.started_at = time.monotonic()
        path = self.child.log_path
        with nullcontext() if path is None else path.open("ab") as log:
            # A session of its own: Ctrl-C reaches the supervisor alone, which stops all in order.
            return subprocess.Popen(  # noqa: S603 - commands are built by us
                self.child.command,
                cwd=self.child.directory,
                env=dict(self.child.build_environment()),
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def restart_if_dead(self) -> None:
        """Start the process again if it has ended, later and later when it ends young."""
        now = time.monotonic()
        if self.restart_at is None:
            code = self.process.poll()
            if code is None:
                return
            is_young = now - self.started_at < _YOUNG_SECONDS
            self.young_deaths = self.young_deaths + 1 if is_young else 0
            wait = min(0.1 * 4 ** min(self.young_deaths, 4), _LONGEST_WAIT) if is_young else 0.0
            self.restart_at = now + wait
            logger.error("%s ended with code %s; starting it again", self.child.name, code)
        if now >= self.restart_at:
            self.restart_at = None
            self.process = self._start()


class Supervisor:
    """Runs its children until a stop signal, one that cannot be helped, or `stop`.

    Use from the main thread: it takes over SIGTERM, SIGINT and SIGHUP.
    """

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children
        self._running: list[_Running] = []
        self._stop_requests = 0
        self._stopped = StoppedChildren()

    def run(
        self,
        *,
        is_ready: Callable[[], bool],
        on_ready: Callable[[], None],
        on_tick: Callable[[], None] = lambda: None,
    ) -> bool:
        """Run until told to stop; return whether that was the reason.

        `on_ready` is called once, as soon as `is_ready` says so; `on_tick` ten times a second.
        """
        before = {number: signal.signal(number, self._note) for number in _STOP_SIGNALS}
        was_ready = False
        try:
            self._running = [_Running(child) for child in self._children]
            while not self._stop_requests:
                for running in self._running:
                    running.restart_if_dead()
                    if running.child.is_vital and running.young_deaths >= _MOST_YOUNG_DEATHS:
                        logger.error("%s keeps ending right after its start", running.child.name)
                        return False
                self._stopped.kill([running.process.pid for running in self._running])
                if not was_ready and is_ready():
                    was_ready = True
                    on_ready()
                on_tick()
                time.sleep(_TICK_SECONDS)
            return True
        finally:
            self._stop_all()
            for number, handler in before.items():
                signal.signal(number, handler)

    def restart(self) -> None:
        """End every child; each is started again with what its environment says then."""
        for running in self._running:
            running.process.terminate()

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._stop_requests += 1

    def _stop_all(self) -> None:
        """Ask every child to end, in the order of their start; a second signal kills at once."""
        asked = self._stop_requests
        asked_at = time.monotonic()
        for running in self._running:
            running.process.terminate()
        for running in self._running:
            deadline = asked_at + (running.child.stop_seconds or _STOP_SECONDS)
            while running.process.poll() is None:
                if time.monotonic() >= deadline or self._stop_requests > asked:
                    running.process.kill()
                time.sleep(0.02)

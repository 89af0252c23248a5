"""Counting processes that a run kills, or freezes and lets go on."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.support.web_server import ROOT, build_environment

# Until `manage.py run_counter` exists, web processes count alone.
HAS_COMMAND = (ROOT / "automations/management/commands/run_counter.py").exists()


class Counter:
    def __init__(self, directory: Path, *, uri: str, name: str, **settings: str) -> None:
        self._log_path = directory / f"{name}.log"
        self._environment = build_environment(uri, **settings)
        self._process: subprocess.Popen[bytes] | None = None
        self._thaw: threading.Timer | None = None

    def start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "run_counter"],
                cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self, seconds: float) -> None:
        """Stop it in its tracks; it goes on later, and others have its share by then."""
        if self._process is None or (self._thaw is not None and self._thaw.is_alive()):
            return
        pid = self._process.pid
        os.kill(pid, signal.SIGSTOP)
        self._thaw = threading.Timer(seconds, os.kill, [pid, signal.SIGCONT])
        self._thaw.start()

    def wait_until_thawed(self) -> None:
        if self._thaw is not None:
            self._thaw.join()

    def stop(self) -> None:
        self.wait_until_thawed()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            finally:
                self.kill()

"""`python -m tests.support.counting_process URI DATABASE`: a process that stands still once.

It counts until it is killed. Between the writes and the commit of its first batch it says
`written`, and goes on after 6 s.
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo import MongoClient

from tests.support.triggers import WINDOW
from tracking.counting.counter import Counter


@contextmanager
def start_counting_process(uri: str, database: str) -> Iterator[subprocess.Popen[str]]:
    """Start one, and wait until it stands still; it is killed at the end."""
    command = [sys.executable, "-m", "tests.support.counting_process", uri, database]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "written\n"
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


def main(uri: str, name: str) -> None:
    client = MongoClient[dict[str, Any]](uri, tz_aware=True, w="majority", journal=True)
    counter = Counter(client[name], window=WINDOW, is_dedicated=True)
    batches = counter._batches
    write = batches._write

    def write_and_wait(*args: Any) -> None:
        write(*args)
        batches._write = write  # type: ignore[method-assign]
        sys.stdout.write("written\n")
        sys.stdout.flush()
        time.sleep(6)

    batches._write = write_and_wait  # type: ignore[method-assign]
    counter.start()
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A counting process for the tests: `python -m tests.support.counting_process URI DATABASE [stop]`.

It says `counting` once it owns partitions, and counts until it is ended. With `stop` it waits
between the writes and the commit of its first batch, says `written`, and goes on after 6 s.
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


class CountingProcess:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def wait_for(self, word: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip() == word:
                return
        raise AssertionError(f"it ended before it was {word}")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@contextmanager
def start_counting_process(uri: str, database: str, *options: str) -> Iterator[CountingProcess]:
    """Start one; it is killed at the end."""
    command = [sys.executable, "-m", "tests.support.counting_process", uri, database, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield CountingProcess(process)
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(uri: str, name: str, *options: str) -> None:
    client = MongoClient[dict[str, Any]](uri, tz_aware=True, w="majority", journal=True)
    counter = Counter(client[name], window=WINDOW, is_dedicated=True)
    if "stop" in options:
        batches = counter._batches
        write = batches._write

        def write_and_wait(*args: Any) -> None:
            write(*args)
            batches._write = write  # type: ignore[method-assign]
            say("written")
            time.sleep(6)

        batches._write = write_and_wait  # type: ignore[method-assign]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    counter.start()
    while not counter._partitions.owned:
        time.sleep(0.01)
    say("counting")
    stop.wait()
    counter.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A writing process for the tests: `python -m tests.support.writer_process URI DATABASE MODE`.

`write`: flushes of 20 triggers over the people p0..p39, until the line `stop` comes; prints how
many triggers there were. `die`: writes one flush, says `written` before its commit, and waits to be
killed in there.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from datetime import timedelta

from pymongo import MongoClient

from tests.support.triggers import WINDOW, make_people, make_trigger, now_in_milliseconds
from tracking.counting.committer import Committer
from tracking.counting.flush import Flusher
from tracking.counting.transaction import FlushTransaction
from tracking.runs import FlushPlan, Outcome


class DyingTransaction(FlushTransaction):
    """Stops between its writes and its commit."""

    def _write(self, *args: object, **options: object) -> FlushPlan:
        plan = super()._write(*args, **options)  # type: ignore[arg-type]
        say("written")
        time.sleep(60)
        return plan


def say(line: str) -> None:
    """Write a line to the test, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def write(committer: Committer) -> None:
    """Count the same people as every other process does, again and again."""
    stopped = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), stopped.set()), daemon=True).start()
    chance = random.Random()
    number = 0
    say("ready")
    while not stopped.is_set():
        # Arrivals spread over hours, so that people run again and again in a second of testing.
        at = now_in_milliseconds() - timedelta(minutes=chance.randrange(600))
        outcomes = committer.submit(
            [
                make_trigger(
                    event_id=str(chance.randrange(100_000)),
                    automation_id=f"a{chance.randrange(2)}",
                    user_id=f"p{chance.randrange(40)}",
                    arrived_at=at,
                )
                for _ in range(20)
            ]
        )
        number += sum(outcome is not Outcome.REDELIVERED for outcome in outcomes)
    committer.close()
    say(str(number))


def main(uri: str, database_name: str, mode: str) -> None:
    """Do what the test asks for."""
    client = MongoClient[dict[str, object]](uri, tz_aware=True, w="majority", journal=True)
    database = client[database_name]
    if mode == "die":
        flusher = Flusher(database, window=WINDOW)
        flusher._transaction.__class__ = DyingTransaction
        Committer(flusher).submit(make_people(5), seconds=60)
    else:
        write(Committer(Flusher(database, window=WINDOW)))


if __name__ == "__main__":
    main(*sys.argv[1:])

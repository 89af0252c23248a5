"""Each flush is noted: what was committed, and what went wrong on the way."""

from __future__ import annotations

import threading
import time
from typing import Any

from prometheus_client.registry import REGISTRY
from pymongo.database import Database

from tests.integration.conftest import FailPoint, MakeFlusher
from tests.support.triggers import make_people, make_trigger
from tracking.counting.committer import Committer
from tracking.counting.flush import Flusher


def read(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_what_was_committed_is_noted_by_outcome(db: Database[Any], flusher: Flusher) -> None:
    names = ("counted", "duplicate", "redelivered")
    before = [read("tracking_triggers_total", outcome=name) for name in names]
    flushes, events = read("tracking_flush_seconds_count"), read("tracking_flush_events_sum")
    committer = Committer(flusher)
    known = make_trigger()
    committer.submit([*make_people(5), make_trigger(), known])
    committer.submit([known])
    committer.close()
    after = [read("tracking_triggers_total", outcome=name) for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [5, 2, 1]
    assert read("tracking_flush_seconds_count") - flushes == 2
    assert read("tracking_flush_events_sum") - events == 8


def test_attempts_that_failed_are_noted_by_kind(
    victim_db: Database[Any], make_flusher: MakeFlusher, fail_point: FailPoint
) -> None:
    before = read("tracking_flush_failures_total", kind="conflict")
    committer = Committer(make_flusher(victim_db))
    committer.submit([make_trigger()])
    with fail_point(
        "commitTransaction", times=1, errorCode=112, errorLabels=["TransientTransactionError"]
    ):
        committer.submit([make_trigger(user_id="p2")])
    committer.close()
    assert read("tracking_flush_failures_total", kind="conflict") == before + 1


def test_what_waits_is_there_while_it_waits(db: Database[Any], flusher: Flusher) -> None:
    may_go = threading.Event()
    flush = flusher.flush

    def wait_and_flush(triggers: Any, *, deadline: float) -> Any:
        may_go.wait(10)
        return flush(triggers, deadline=deadline)

    flusher.flush = wait_and_flush  # type: ignore[method-assign]
    committer = Committer(flusher)
    threads = [
        threading.Thread(target=committer.submit, args=([one],), kwargs={"seconds": 20})
        for one in make_people(4)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    # The first is in the flush, or some that came with it; the others wait.
    while (waiting := read("tracking_waiting_events")) == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    may_go.set()
    for thread in threads:
        thread.join()
    committer.close()
    assert 1 <= waiting <= 4
    assert read("tracking_waiting_events") == 0

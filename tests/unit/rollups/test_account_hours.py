import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.support.triggers import T0
from tracking.exceptions import TrackingUnavailable
from tracking.rollups import account_hours
from tracking.rollups.account_hours import AccountHour, AccountHours, Pending
from tracking.rollups.hours import hour_of

HOUR = hour_of(T0)


class Writer:
    """Keeps what was written; fails while it is told to."""

    def __init__(self) -> None:
        self.written: list[Pending] = []
        self.error: Exception | None = None
        self.has_written = threading.Event()

    def __call__(self, pending: Pending) -> None:
        if self.error is not None:
            raise self.error
        self.written.append(pending)
        self.has_written.set()


@pytest.fixture
def writer() -> Writer:
    return Writer()


@pytest.fixture
def hours(writer: Writer) -> Iterator[AccountHours]:
    one = AccountHours(writer, seconds=60)
    yield one
    one.close()


def test_counts_of_an_hour_are_written_as_one(hours: AccountHours, writer: Writer) -> None:
    hours.add("1", at=T0, ignored={"echo": 2, "seen": 1})
    hours.add("1", at=T0 + timedelta(minutes=1), ignored={"echo": 1})
    hours.add("1", at=T0, redelivered=3)
    hours.add("1", at=T0 + timedelta(hours=1), redelivered=1)
    hours.add("2", at=T0, ignored={"test": 1})
    assert hours.flush()
    assert writer.written == [{
        ("1", HOUR): AccountHour({"echo": 3, "seen": 1}, 3),
        ("1", HOUR + 1): AccountHour({}, 1),
        ("2", HOUR): AccountHour({"test": 1}),
    }]  # fmt: skip
    assert hours.flush()
    assert len(writer.written) == 1


@pytest.mark.parametrize("seconds", [0.01, 60])
def test_a_thread_writes_by_itself_or_when_it_is_closed(writer: Writer, seconds: float) -> None:
    hours = AccountHours(writer, seconds=seconds)
    hours.add("1", at=T0, redelivered=1)
    if seconds < 1:
        assert writer.has_written.wait(5)
    hours.close()
    assert writer.written == [{("1", HOUR): AccountHour({}, 1)}]


def test_what_could_not_be_written_is_written_later(hours: AccountHours, writer: Writer) -> None:
    writer.error = TrackingUnavailable("away")
    hours.add("1", at=T0, ignored={"echo": 1})
    assert not hours.flush()
    hours.add("1", at=T0, ignored={"echo": 1})
    writer.error = None
    assert hours.flush()
    assert writer.written == [{("1", HOUR): AccountHour({"echo": 2})}]


def test_a_bug_is_not_tried_for_ever(hours: AccountHours, writer: Writer, caplog: Any) -> None:
    writer.error = KeyError("bug")
    hours.add("1", at=T0, redelivered=1)
    assert not hours.flush()
    assert "KeyError" in caplog.text
    writer.error = None
    assert hours.flush()
    assert writer.written == []


def test_an_outage_fills_no_memory(hours: AccountHours, writer: Writer, monkeypatch: Any) -> None:
    monkeypatch.setattr(account_hours, "MOST_PENDING", 2)
    for account_id in "1231":
        hours.add(account_id, at=T0, redelivered=1)
    hours.flush()
    assert writer.written == [{("1", HOUR): AccountHour({}, 2), ("2", HOUR): AccountHour({}, 1)}]

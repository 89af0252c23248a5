"""Counting against a reference model: any order, any batches, any clock, any crash (I1-I8).

Hypothesis makes up histories: deliveries and redeliveries by several processes on a real server,
clock steps to the millisecond, counting that is off, on again or fails for one automation, folding
and `add_run_fields` in between, processes that die, stand still or are overtaken at any command.
Every commit is compared with the model, and every document when all is counted.

`HYPOTHESIS_PROFILE=thorough` looks for longer, and elsewhere each time.
"""

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from pymongo.database import Database

from tests.support.counting import LONG_AGO, Counting
from tests.support.histories import Delivery, Fault, Item
from tests.support.laboratory import Laboratory
from tests.support.triggers import MILLISECOND, WINDOW
from tests.support.wire import Document, Place
from tracking.counting import batch, counter, partitions
from tracking.counting.switch import SwitchState

PROFILES = {
    "default": {"max_examples": 60, "stateful_step_count": 14, "derandomize": True},
    "thorough": {"max_examples": 300, "stateful_step_count": 30, "print_blob": True},
}
PROFILE = settings(
    **PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "default")],
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],  # explaining takes long
    suppress_health_check=list(HealthCheck),
)
NOW = timedelta(0)
COMMIT: Place = ("commitTransaction", "automation_triggers")
MARK: Place = ("update", "automation_triggers")


@pytest.fixture
def lab(db: Database[Document], settings: Any, monkeypatch: Any) -> Iterator[Laboratory]:
    laboratory = Laboratory(db, settings.MONGODB_URI)
    for module in (batch, counter):
        monkeypatch.setattr(module, "read_now", laboratory.read_now)
    # The time that examples take must not decide who is dead.
    is_over = {"$lt": ["$renewedAt", LONG_AGO + timedelta(days=1)]}
    monkeypatch.setattr(partitions, "IS_OVER", is_over)
    # Who has to wait for a lock here would wait for ever.
    monkeypatch.setattr(batch, "BATCH_SECONDS", 1.0)
    yield laboratory
    laboratory.close()


def test_any_history_is_counted_as_the_model_counts_it(lab: Laboratory) -> None:
    run_state_machine_as_test(lambda: Counting(lab), settings=PROFILE)


def deliver(*items: tuple[int, int], at: timedelta | None = None, again: int | None = None) -> Any:
    """Return a delivery of events by (automation, person), `at` so long after the newest run."""
    return Delivery(
        items=[Item(automation, person, again) for automation, person in items],
        ago=timedelta(0),
        near=None if at is None else 0,
        distance=at or timedelta(0),
    )


def strike(kind: str, place: Place, *deliveries: Delivery, is_after_reply: bool = False) -> Fault:
    return Fault(kind, place, is_after_reply, list(deliveries))


def an_earlier_run_counts_for_the_first_of_a_pair_alone(history: Counting) -> None:
    history.an_older_product_was_here([(0, 0, 4, False)], [None, None])
    both = [deliver((0, 0), at=WINDOW), deliver((0, 0), at=2 * WINDOW + MILLISECOND)]
    history.store_and_count(0, both, NOW)


def a_window_starts_half_a_millisecond_after_an_earlier_run(history: Counting) -> None:
    history.an_older_product_was_here([(0, 0, 0, False)], [None, None])
    history.store_and_count(0, [deliver((0, 1))], NOW)
    history.read_at_an_edge(back=1, days=7, ms=0.5)


def whoever_dies_at_its_commit_is_replaced(history: Counting) -> None:
    history.store_and_count(0, [deliver((0, 0))], NOW)
    history.store_and_count_and(0, [deliver((0, 1), (1, 1))], strike("crash", COMMIT))
    history.store_and_count(1, [deliver((0, 2))], NOW)
    assert history.db["automation_runs"].count_documents({}) == 1, "its lease is running"
    history.leases_run_out(0, True, False)
    history.count(1)
    assert history.db["automation_runs"].count_documents({}) == 4


def whoever_dies_before_it_marks_is_marked_for(history: Counting) -> None:
    history.store_and_count(0, [deliver((0, 0))], NOW)
    history.store_and_count_and(0, [deliver((0, 1), (0, 0))], strike("crash", MARK))
    history.leases_run_out(0, True, False)
    history.count(1)
    assert not history.db["automation_triggers"].count_documents({"outcome": None})


def whoever_stands_still_before_its_commit_has_not_counted(history: Counting) -> None:
    history.store_and_count(0, [deliver((0, 0))], NOW)
    history.store_and_count_and(0, [deliver((0, 1), (1, 0))], strike("fence", COMMIT))
    history.count(0)


def whoever_stands_still_before_it_marks_marks_nothing_else(history: Counting) -> None:
    history.store_and_count(0, [deliver((0, 0))], NOW)
    history.store_and_count_and(0, [deliver((0, 1), (1, 0))], strike("fence", MARK))
    history.count(0)


def off_for_an_hour_with_a_death_in_it(history: Counting) -> None:
    history.store_and_count(0, [deliver((0, 0), (0, 1))], NOW)
    history.switch(SwitchState.OFF)
    for number in range(4):
        batch = [deliver((0, 0), (1, 0), (0, 2))]
        history.store_and_count(number % 2, batch, timedelta(minutes=30))
    history.switch(SwitchState.ON)
    history.count_and(0, strike("crash", MARK))
    history.leases_run_out(0, True, False)


def a_poison_is_healed(history: Counting) -> None:
    history.store(0, [deliver((0, 0), (0, 1), (1, 0))], NOW)
    history.poison(0)
    history.count(0)
    history.count(0)
    assert history.db["automation_runs"].count_documents({}) in {1, 2}
    history.store_and_count(0, [deliver((0, 0), at=3 * WINDOW)], NOW)
    history.heal()
    history.count(1)


@pytest.mark.parametrize(
    "history",
    [
        an_earlier_run_counts_for_the_first_of_a_pair_alone,
        a_window_starts_half_a_millisecond_after_an_earlier_run,
        whoever_dies_at_its_commit_is_replaced,
        whoever_dies_before_it_marks_is_marked_for,
        whoever_stands_still_before_its_commit_has_not_counted,
        whoever_stands_still_before_it_marks_marks_nothing_else,
        off_for_an_hour_with_a_death_in_it,
        a_poison_is_healed,
    ],
    ids=lambda history: history.__name__,
)
def test_a_seldom_history(lab: Laboratory, history: Callable[[Counting], None]) -> None:
    counting = Counting(lab)
    history(counting)
    counting.nothing_is_lost_and_windows_are_exact()
    counting.teardown()

"""Counting against a reference model: any order, any batches, any clock, any crash (I1-I9).

Hypothesis makes up histories: deliveries and redeliveries by several processes on a real server,
clock steps to the millisecond, folding and `add_run_fields` in between, tracking that is off, on
again or fails, processes that die, stall or are overtaken at any command. After every step all
documents are compared with the model.

`HYPOTHESIS_PROFILE=thorough` looks for longer, and elsewhere each time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from bson import Binary
from bson.binary import UUID_SUBTYPE
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from pymongo.database import Database

from tests.support.counting import Counting
from tests.support.histories import Delivery, Fault, Item
from tests.support.laboratory import Clock, Laboratory
from tests.support.triggers import MILLISECOND, WINDOW
from tests.support.wire import Document, Place
from tracking.counting import stripes
from tracking.maintenance import replay

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
COMMIT = ("commitTransaction", "automation_triggers")


@pytest.fixture
def lab(
    db: Database[Document], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Laboratory]:
    laboratory = Laboratory(db, settings.MONGODB_URI)
    for module in ("bases", "flush"):
        monkeypatch.setattr(f"tracking.counting.{module}.datetime", Clock(laboratory))
    # The time that examples take must not decide who is dead.
    monkeypatch.setattr(stripes, "LEASE_SECONDS", 86_400)
    # Nor need a history wait for who died while everybody was held.
    monkeypatch.setattr(replay, "_HOLD", timedelta(milliseconds=30))
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


def crash(place: Place, *, is_after_reply: bool = False) -> Fault:
    return Fault("crash", place, is_after_reply, [])


def overtake(place: Place, *deliveries: Delivery, is_after_reply: bool = False) -> Fault:
    return Fault("flush", place, is_after_reply, list(deliveries))


def an_earlier_run_counts_for_the_first_of_a_pair_alone(history: Counting) -> None:
    history.an_older_product_was_here([(0, 0, 4, False)], [None, None])
    both = [deliver((0, 0), at=WINDOW), deliver((0, 0), at=2 * WINDOW + MILLISECOND)]
    history.flush(0, both, timedelta(0))


def an_event_stands_twice_in_a_flush_that_is_split(history: Counting) -> None:
    locked_and_free = deliver((0, 0), (0, 1))
    twice = deliver((0, 1), (0, 1), again=0)
    place = ("insert", "automation_contacts")
    history.flush_and(
        0, [deliver((0, 0))], timedelta(0),
        overtake(place, locked_and_free, twice, is_after_reply=True),
    )  # fmt: skip


def a_merge_is_overtaken_by_a_newer_one(history: Counting) -> None:
    history.an_older_product_was_here([], [0, 0])
    place = ("update", "automations")
    history.flush_and(0, [deliver((0, 0))], timedelta(0), overtake(place, deliver((0, 1))))


def a_window_starts_half_a_millisecond_after_an_earlier_run(history: Counting) -> None:
    history.an_older_product_was_here([(0, 0, 0, False)], [None, None])
    history.flush(0, [deliver((0, 1))], timedelta(0))
    history.read_at_an_edge(back=1, days=7, ms=0.5)


def the_ttl_cuts_through_an_hour_before_a_recount(history: Counting) -> None:
    history.an_older_product_was_here([(0, 2, 0, False)], [None, None])
    history.flush(0, [deliver((0, 0))], timedelta(0))
    history.flush(0, [deliver((0, 1))], timedelta(minutes=30))
    history.fold(0, WINDOW, None)
    history.lab.now -= WINDOW
    history.documents_expire(90)
    history.add_run_fields(0, True, None)


def a_base_is_taken_after_runs_were_counted(history: Counting) -> None:
    history.an_older_product_was_here([(0, 0, 1, False), (0, 1, 8, False)], [0, None])
    failure = Fault("base", 0, False, [])
    history.flush_and(0, [deliver((0, 0), (0, 1), (0, 2))], timedelta(0), failure)
    history.everything_is_as_in_the_model()
    history.flush(1, [deliver((0, 0))], timedelta(0))


def an_older_product_went_on_counting(history: Counting) -> None:
    history.an_older_product_was_here([(0, 0, 8, False)], [3, None])
    history.flush(0, [deliver((0, 0), (0, 1))], timedelta(0))
    history.db["automations"].update_one({"_id": "a1"}, {"$inc": {"totalRuns": 5}})
    history.model.stored_totals["a1"] += 5
    history.add_run_fields(0, True, None)


def whoever_dies_at_its_commit_is_buried_by_the_next(history: Counting) -> None:
    history.flush_and_die(0, [deliver((0, 0), (0, 1))], crash(COMMIT))
    history.flush(1, [deliver((0, 0), again=1)], timedelta(0))
    assert history.unacknowledged[1:], "its lease is running, so nobody can take its keys"
    history.leases_run_out(0, True, False)
    history.flush(1, [deliver((0, 0), again=1), deliver((0, 1))], timedelta(0))


def whoever_dies_while_it_folds_is_buried_by_the_next(history: Counting) -> None:
    history.flush(0, [deliver((0, 0))], timedelta(0))
    history.fold(0, 3 * WINDOW, crash(("commitTransaction", "")))
    [session] = history.dead[0].wire.open
    named = {"chore": Binary(session, UUID_SUBTYPE)}
    assert history.db["tracking_writers"].count_documents(named) == 1
    history.leases_run_out(0, True, False)
    history.flush(1, [deliver((0, 0))], timedelta(0))


REPLAYED = ("update", "automation_triggers")


def off_for_an_hour(history: Counting) -> None:
    history.flush(0, [deliver((0, 0), (0, 1))], timedelta(0))
    history.switch_off(0)
    for number in range(4):
        history.flush(number % 2, [deliver((0, 0), (1, 0), (0, 2))], timedelta(minutes=30))


def whoever_dies_while_it_switches_on_has_left_it_off_and_the_next_goes_on(
    history: Counting,
) -> None:
    off_for_an_hour(history)
    history.switch_on(0, crash(REPLAYED, is_after_reply=True))
    assert history.is_on is False
    assert history.model.list_untracked()
    history.flush(1, [deliver((0, 1))], timedelta(hours=1))
    history.switch_on(1, None)
    assert history.is_on
    assert not history.model.list_untracked()


def a_flush_overtakes_the_end_of_catching_up(history: Counting) -> None:
    off_for_an_hour(history)
    history.switch_on(0, overtake(COMMIT, deliver((0, 1), (1, 1))))
    history.send_again(1, timedelta(0))
    history.switch_off(0)
    history.switch_on(1, overtake(("update", "tracking_switch"), deliver((1, 2))))
    history.everything_is_as_in_the_model()


def tracking_is_on_before_a_flush_that_found_it_off_has_written(history: Counting) -> None:
    off_for_an_hour(history)
    place = ("update", "tracking_switch")
    history.flush_and(0, [deliver((0, 1))], 2 * WINDOW, Fault("on", place, False, []))
    assert history.is_on
    assert not history.model.list_untracked()


def what_failed_is_counted_beside_newer_runs(history: Counting) -> None:
    failure = Fault("count", 0, False, [])
    history.flush_and(0, [deliver((0, 0), (0, 1))], timedelta(0), failure)
    history.flush(1, [deliver((0, 0))], timedelta(minutes=30))
    history.flush(1, [deliver((0, 1))], WINDOW + MILLISECOND)
    history.replay(0, overtake(REPLAYED, deliver((0, 2))))
    assert [one.outcome for one in history.model.events.values()][:2] == ["duplicate", "counted"]


@pytest.mark.parametrize(
    "history",
    [
        whoever_dies_while_it_switches_on_has_left_it_off_and_the_next_goes_on,
        a_flush_overtakes_the_end_of_catching_up,
        tracking_is_on_before_a_flush_that_found_it_off_has_written,
        what_failed_is_counted_beside_newer_runs,
        an_earlier_run_counts_for_the_first_of_a_pair_alone,
        an_event_stands_twice_in_a_flush_that_is_split,
        a_merge_is_overtaken_by_a_newer_one,
        a_window_starts_half_a_millisecond_after_an_earlier_run,
        the_ttl_cuts_through_an_hour_before_a_recount,
        a_base_is_taken_after_runs_were_counted,
        an_older_product_went_on_counting,
        whoever_dies_at_its_commit_is_buried_by_the_next,
        whoever_dies_while_it_folds_is_buried_by_the_next,
    ],
    ids=lambda history: history.__name__,
)
def test_a_history_that_is_seldom_made_up(
    lab: Laboratory, history: Callable[[Counting], None]
) -> None:
    counting = Counting(lab)
    history(counting)
    counting.everything_is_as_in_the_model()
    counting.teardown()

"""The host's clock jumps ahead, falls back, is put right: counting goes by its rules all along."""

from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pymongo.database import Database

from automations.rules.cache import get_rules_cache
from automations.webhook.deliveries import handle_delivery
from tests.support.oracle import recount
from tests.support.reference_model import ReferenceModel
from tests.support.triggers import MILLISECOND, T0, WINDOW
from tests.support.uncounted import count_everything
from tests.support.webhook_cases import build_automation, build_body, build_comment
from tracking.counting.counter import Counter

# Each example has an automation of its own: a process remembers what it has stored of one.
_examples = count(1)
PEOPLE = ("ann", "bea")
# By how much the clock moves between two deliveries: time that passes, NTP's corrections, a
# virtual machine that slept, a battery that was empty, a time zone taken for the time.
STEPS = st.sampled_from([
    timedelta(seconds=1), MILLISECOND, timedelta(minutes=61), WINDOW, WINDOW + MILLISECOND,
    -MILLISECOND, -timedelta(seconds=3), -WINDOW, -WINDOW - MILLISECOND, timedelta(hours=2),
    -timedelta(hours=2), timedelta(days=30), -timedelta(days=30), timedelta(0),
])  # fmt: skip


@pytest.fixture(autouse=True)
def _no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count in the test's own thread: examples must not depend on another one's."""
    monkeypatch.setattr(Counter, "start", lambda self: None)


DELIVERY = st.tuples(STEPS, st.sampled_from(PEOPLE), st.booleans())


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(history=st.lists(DELIVERY, min_size=2, max_size=10))
@example(history=[(timedelta(0), "ann", False), (-timedelta(hours=2), "ann", False),
                  (timedelta(hours=3), "ann", True), (MILLISECOND, "ann", False)])  # fmt: skip
def test_any_steps_of_the_clock_are_counted_as_the_model_counts_them(
    db: Database[dict[str, Any]], history: list[tuple[timedelta, str, bool]]
) -> None:
    number_of_example = next(_examples)
    key = f"a{number_of_example}"
    db["automations"].insert_one(build_automation(key, accountId=key))
    get_rules_cache().refresh()
    model = ReferenceModel(WINDOW)
    at = newest = T0
    for number, (step, _, is_redelivered) in enumerate(history):
        at += step
        newest = max(newest, at)
        # A redelivery is the event before, by whoever wrote it, at another time of the clock.
        event = number - 1 if is_redelivered and number else number
        person = history[event][1]
        comment = build_comment(number_of_example * 100 + event, **{"from": {"id": person}})
        handle_delivery(build_body(comment, account_id=key), arrived_at=at)
        count_everything(db)
        expected = model.record(comment["id"], key, person, at)
        [stored] = db["automation_triggers"].find({"_id": {"$regex": f"{comment['id']}$"}})
        assert expected in {stored["outcome"], "redelivered"}
    assert recount(db, at=newest) == []
    automation = db["automations"].find_one({"_id": key}) or {}
    assert automation["totalRuns"] == model.count_total(key)
    assert automation["lastRunAt"] == model.find_last_run_at(key)

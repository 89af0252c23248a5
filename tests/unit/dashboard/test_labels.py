"""Everything that can become of a run has words, and the tables miss nothing that is stored."""

from typing import Any

import pytest

from automations.dashboard.funnel import build_outcomes, build_stages, build_uncounted
from automations.dashboard.labels import (
    JOBS,
    STATES,
    STEPS,
    describe_reason,
    describe_state,
    describe_step,
)
from automations.dashboard.run_list import OUTCOMES, summarize_outcome
from automations.instagram.graph_errors import ErrorClass
from automations.outbox.jobs import JobState, StepState
from automations.rules.steps import STEPS_BY_TYPE
from tests.support.triggers import T0
from tracking.queries.run_store import Reason, Reasons
from tracking.reports import Outcomes
from tracking.rollups.outcomes import COMPLETED


def test_every_step_state_and_reason_has_words() -> None:
    assert STEPS.keys() == {step for steps in STEPS_BY_TYPE.values() for step in steps}
    assert STATES.keys() == set(StepState)
    assert OUTCOMES.keys() <= {COMPLETED, *StepState}
    # A job that is not at its end says what it waits for; WAITING is the end that waits.
    assert JOBS.keys() == {"queued", "leased", "sending", "waiting"} <= set(JobState)
    for one in ErrorClass:
        assert " " in describe_reason(one.name.lower()), one


@pytest.mark.parametrize("value", ["new", None, 7, {}])
def test_what_nobody_knows_is_shown_as_it_is_stored(value: object) -> None:
    words = value if isinstance(value, str) else None
    assert describe_step(value) == (words or "Something")
    assert describe_state(value) == ("quiet", words or "unknown")
    assert describe_reason(value) == (words or "")


@pytest.mark.parametrize(
    ("run", "outcome"),
    [
        ({}, ("quiet", "nothing sent yet")),
        ({"steps": "x"}, ("quiet", "nothing sent yet")),
        ({"completedAt": T0, "steps": {"comment_reply": {"state": "failed"}}},
         ("ok", "completed")),
        ({"steps": {"comment_reply": {"state": "sent"}, "opening_dm": {"state": "sent"}}},
         ("quiet", "opening message sent, no tap yet")),
        ({"steps": {"opening_dm": {"state": "sent"}, "main_dm": {"state": "failed"}}},
         ("bad", "main message not delivered")),
        ({"steps": {"comment_reply": {"state": "failed"}, "opening_dm": {"state": "sent"}}},
         ("bad", "public reply not delivered")),
        ({"steps": {"ask_follow": {"state": "skipped"}}}, ("quiet", "request to follow skipped")),
    ],
)  # fmt: skip
def test_a_run_in_a_line(run: dict[str, object], outcome: tuple[str, str]) -> None:
    assert summarize_outcome(run) == outcome


def make_outcomes(**counts: Any) -> Outcomes:
    return Outcomes(**{"counted": 0} | counts, from_=T0, to=T0, as_of=T0, is_exact=True)


def test_stages_are_those_of_the_automation_or_those_that_were_reached() -> None:
    stages = build_stages(make_outcomes(counted=8, opened=4), {"main_dm"})
    assert stages == [
        ("Started", 8, 100.0), ("Got the opening message", 4, 50.0), ("Completed", 0, 0.0),
    ]  # fmt: skip
    assert [runs for _, runs, _ in build_stages(make_outcomes(), {"ask_follow"})] == [0, 0, 0]


def test_outcomes_are_in_the_order_of_sending() -> None:
    reasons = [
        Reason("main_dm", "sent", None, None, None, 9),
        Reason("opening_dm", "sent", None, None, None, 7),
        Reason("opening_dm", "failed", "permanent", 551, None, 3),
        Reason("new_step", "new", None, None, None, 1),
    ]
    lines = build_outcomes(Reasons(reasons, 10, True))
    assert [(one["step"], one["tone"], one["runs"]) for one in lines] == [
        ("Opening message", "ok", 7), ("Opening message", "bad", 3),
        ("Main message", "ok", 9), ("new_step", "quiet", 1),
    ]  # fmt: skip


def test_what_is_not_counted_adds_up() -> None:
    ignored = {"test": 1, "echo": 9}
    found = make_outcomes(counted=140, duplicates=57, pending=3, redelivered=5, ignored=ignored)
    shown = build_uncounted(found)
    assert (shown["events"], shown["counted"]) == (200, 140)
    assert [line[0] for line in shown["own"]] == [57, 3]
    assert [line[:2] for line in shown["of_account"]] == [
        (5, "redeliveries"), (9, "echo"), (1, "test"),
    ]  # fmt: skip

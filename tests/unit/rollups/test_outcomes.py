"""Reports add up to the same, in whatever order and however often they are told."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.triggers import T0
from tracking.rollups.hours import hour_of
from tracking.rollups.outcomes import StepOutcome, flatten_counts, plan_outcomes

HOUR = timedelta(hours=1)
RUNS = {f"r{n}": {"automationId": "a1", "createdAt": T0 + n * HOUR / 2} for n in range(4)}

outcomes = st.builds(
    lambda run, step, state, minute, reason: StepOutcome(
        run_id=run, automation_id="a1", step=step, state=state,
        at=T0 + timedelta(minutes=minute), reason=reason,
        is_completed=(step, state) == ("main_dm", "sent"),
    ),
    st.sampled_from([*RUNS, "gone"]),
    st.sampled_from(["opening_dm", "ask_follow", "main_dm"]),
    st.sampled_from(["sent", "failed", "unknown", "expired", "skipped", "shadow"]),
    st.integers(0, 3),
    st.sampled_from([None, "follows", "cut_off"]),
)  # fmt: skip


class Stored:
    """Runs and hours as a database would hold them."""

    def __init__(self) -> None:
        self.runs: dict[Any, dict[str, Any]] = {key: dict(run) for key, run in RUNS.items()}
        self.hours: Counter[tuple[str, int, str]] = Counter()

    def tell(self, reports: list[StepOutcome]) -> None:
        plan = plan_outcomes(reports, self.runs)
        for run_id, changes in plan.runs.items():
            run = self.runs[run_id]
            for path, value in changes.items():
                if path == "completedAt":
                    run[path] = value
                else:
                    run["steps"] = run.get("steps", {}) | {path.removeprefix("steps."): value}
        for (automation_id, hour), counts in plan.hours.items():
            for name, count in counts.items():
                assert count
                self.hours[automation_id, hour, name] += count

    def count_again(self) -> Counter[tuple[str, int, str]]:
        """What the hours should hold, from the runs alone."""
        counts: Counter[tuple[str, int, str]] = Counter()
        for run in self.runs.values():
            hour = hour_of(run["createdAt"])
            for step, result in run.get("steps", {}).items():
                counts["a1", hour, f"{step}.{result['state']}"] += 1
            counts["a1", hour, "completed"] += "completedAt" in run
        return +counts


@given(st.lists(outcomes, max_size=30), st.data())
def test_order_and_batches_change_nothing(reports: list[StepOutcome], data: st.DataObject) -> None:
    once, again = Stored(), Stored()
    once.tell(reports)
    shuffled = data.draw(st.permutations(reports + reports[: len(reports) // 2]))
    size = data.draw(st.integers(1, 10))
    for start in range(0, len(shuffled), size):
        again.tell(shuffled[start : start + size])
    assert again.runs == once.runs
    assert +again.hours == +once.hours == once.count_again()
    assert all(count >= 0 for count in again.hours.values())


def report(state: str, minute: int = 0, **fields: Any) -> StepOutcome:
    values: dict[str, Any] = {"run_id": "r0", "automation_id": "a1", "step": "main_dm"} | fields
    return StepOutcome(state=state, at=T0 + timedelta(minutes=minute), **values)


@pytest.mark.parametrize(
    ("states", "kept"),
    [
        (["unknown", "sent"], "sent"),  # the echo came
        (["sent", "unknown"], "sent"),
        (["sent", "failed"], "sent"),  # a duplicate's message failed later
        (["unknown", "failed"], "failed"),  # its answer came after all
        (["failed", "sent"], "sent"),  # another tap
        (["sent", "skipped"], "sent"),  # asked, and then they followed
    ],
)
def test_which_result_stays(states: list[str], kept: str) -> None:
    stored = Stored()
    stored.tell([report(state, minute) for minute, state in enumerate(states)])
    assert stored.runs["r0"]["steps"]["main_dm"]["state"] == kept
    assert +stored.hours == {("a1", hour_of(T0), f"main_dm.{kept}"): 1}


def test_result_keeps_metas_error_and_our_reason() -> None:
    stored = Stored()
    stored.tell([report("failed", code=10, subcode=2534022, reason="outside_window")])
    assert stored.runs["r0"]["steps"]["main_dm"] == {
        "state": "failed", "at": T0, "code": 10, "subcode": 2534022, "reason": "outside_window",
    }  # fmt: skip


def test_run_is_completed_once_and_as_early_as_it_was() -> None:
    stored = Stored()
    stored.tell([report("sent", 5, is_completed=True), report("sent", 2, is_completed=True)])
    stored.tell([report("sent", 9, is_completed=True)])
    assert stored.runs["r0"]["completedAt"] == T0 + timedelta(minutes=2)
    assert stored.hours["a1", hour_of(T0), "completed"] == 1


@pytest.mark.parametrize("name", ["", "a.b", "$set"])
def test_names_that_are_paths_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="plain names"):
        report("sent", step=name)
    with pytest.raises(ValueError, match="plain names"):
        report(name)


def test_counts_are_read_flat_and_without_zeros() -> None:
    nested = {"main_dm": {"sent": 2, "unknown": 0}, "completed": 2}
    assert flatten_counts(nested) == {"main_dm.sent": 2, "completed": 2}

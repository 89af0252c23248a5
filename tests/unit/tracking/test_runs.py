"""The rules of counting, proven against a model too simple to be wrong."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.triggers import MILLISECOND, T0, WINDOW
from tracking.clock import truncate_to_milliseconds
from tracking.ids import (
    PARTITIONS,
    build_contact_id,
    build_trigger_id,
    lane_of,
    parse_trigger_id,
    partition_of,
)
from tracking.runs import Claim, Decision, Outcome, Waiting, plan_batch

COUNTED, DUPLICATE = Outcome.COUNTED, Outcome.DUPLICATE
# Steps of a quarter of the window meet its edges exactly; a millisecond stands beside them.
arrivals = st.builds(
    lambda quarters, ms: T0 + quarters * WINDOW / 4 + ms * MILLISECOND,
    st.integers(0, 20),
    st.sampled_from([-1, 0, 1]),
)


def wait(run_id: str, at: datetime = T0, **fields: Any) -> Waiting:
    """Return a waiting trigger of `a1` whose run would be `run_id`."""
    values = {"user_id": "p1", "automation_id": "a1", "trigger_id": f"t:{run_id}"} | fields
    return Waiting(arrived_at=at, run_id=run_id, **values)


def plan(batch: Any, claims: dict[str, Claim] | None = None, **continued: str) -> list[Decision]:
    claims = {} if claims is None else claims
    return plan_batch(batch, claims=claims, continued=continued, window=WINDOW)


def build_claim(*runs: datetime) -> dict[str, Claim]:
    """Return the claim of a stored pair with all its runs, named by their times."""
    claim = Claim(last_run_at=max(runs), last_run_id=max(runs), is_stored=True,
                  first_run_at=min(runs), near=[(at, at) for at in runs])  # fmt: skip
    return {"a1:p1": claim}


@pytest.mark.parametrize(
    ("after", "outcome"),
    [
        (timedelta(0), DUPLICATE),
        (WINDOW - MILLISECOND, DUPLICATE),
        (WINDOW, DUPLICATE),
        (WINDOW + MILLISECOND, COUNTED),
        (-MILLISECOND, DUPLICATE),
        (-WINDOW, DUPLICATE),
        (-WINDOW - MILLISECOND, COUNTED),
    ],
    ids=["0", "59:59.999", "60:00.000", "60:00.001", "before", "-60:00.000", "-60:00.001"],
)
def test_window_edge(after: timedelta, outcome: Outcome) -> None:
    [first, second] = plan([wait("r1"), wait("r2", T0 + after)])
    assert (first.outcome, second.outcome) == (COUNTED, outcome)
    [stored] = plan([wait("r", T0 + after)], build_claim(T0))
    assert stored.outcome is outcome


@pytest.mark.parametrize("sign", [1, -1])
def test_a_late_trigger_meets_a_run_on_either_side(sign: int) -> None:
    newest, late = T0 + 9 * WINDOW, T0
    for distance, outcome in ((WINDOW, DUPLICATE), (WINDOW + MILLISECOND, COUNTED)):
        near = late + sign * distance
        [decision] = plan([wait("r", late)], build_claim(near, newest))
        assert decision.outcome is outcome
        assert decision.run_id == (near if outcome is DUPLICATE else "r")


def test_a_late_run_moves_nothing_back() -> None:
    claims = build_claim(T0 + 9 * WINDOW)
    assert [one.outcome for one in plan([wait("r", T0)], claims)] == [COUNTED]
    claim = claims["a1:p1"]
    assert (claim.first_run_at, claim.last_run_at) == (T0, T0 + 9 * WINDOW)
    assert (claim.last_run_id, claim.new_runs) == (T0 + 9 * WINDOW, 1)


def test_duplicates_name_the_run_they_belong_to() -> None:
    later = T0 + WINDOW + MILLISECOND
    decisions = plan([wait("r1", T0 + WINDOW), wait("r2", later), wait("r3", later)],
                     build_claim(T0))  # fmt: skip
    assert [(one.outcome, one.run_id) for one in decisions] == [
        (DUPLICATE, T0), (COUNTED, "r2"), (DUPLICATE, "r2"),
    ]  # fmt: skip


def test_new_people_are_new_once() -> None:
    decisions = plan([wait("r1", user_id="new"), wait("r2", T0 + 2 * WINDOW, user_id="new"),
                      wait("r3", T0 + 2 * WINDOW)], build_claim(T0))  # fmt: skip
    assert [one.is_new_person for one in decisions] == [True, False, False]


def test_a_continuation_carries_a_run_on_and_counts_nothing() -> None:
    claims: dict[str, Claim] = {}
    batch = [
        wait("r1"), wait("r2"),
        wait("known", continues="t:r1"), wait("known", continues="t:r2"),
        wait("known", continues="elsewhere"), wait("known", continues="gone"),
    ]  # fmt: skip
    taps = plan(batch, claims, elsewhere="r0")[2:]
    assert [one.run_id for one in taps] == ["r1", "r1", "r0", "known"]
    assert {one.outcome for one in taps} == {Outcome.CONTINUATION}
    assert claims["a1:p1"].new_runs == 1


@given(st.lists(arrivals, max_size=30), st.lists(st.integers(1, 6), min_size=1))
def test_any_batches_in_any_order_keep_the_promises(
    arriving: list[datetime], sizes: list[int]
) -> None:
    """I1, I2 by brute force; batch by batch, the claim carried on as the database does."""
    runs: dict[str, datetime] = {}
    waiting = [wait(f"r{number}", at) for number, at in enumerate(arriving)]
    expected: list[Outcome] = []
    decisions: list[Decision] = []
    while waiting:
        size = sizes[len(decisions) % len(sizes)]
        batch, waiting = waiting[:size], waiting[size:]
        batch.sort(key=lambda one: one.arrived_at)
        claims = build_claim(*runs.values()) if runs else {}
        for claim in claims.values():
            claim.near = [(at, run_id) for run_id, at in runs.items()]
            claim.last_run_id = max(runs, key=lambda run_id: runs[run_id])
        for one, decision in zip(batch, plan(batch, claims), strict=True):
            is_near = any(abs(at - one.arrived_at) <= WINDOW for at in runs.values())
            expected.append(DUPLICATE if is_near else COUNTED)
            decisions.append(decision)
            if is_near:  # I2
                assert abs(runs[decision.run_id] - one.arrived_at) <= WINDOW
            else:
                runs[one.run_id] = one.arrived_at
        if runs:
            assert claims["a1:p1"].last_run_at == max(runs.values())
            assert claims["a1:p1"].first_run_at == min(runs.values())
    assert [one.outcome for one in decisions] == expected
    assert all(later - earlier > WINDOW for earlier, later in pairwise(sorted(runs.values())))


def test_partitions_are_fixed_and_lanes_lie_beside_them() -> None:
    numbers = [partition_of(f"a{number}") for number in range(1000)]
    assert set(numbers) == set(range(PARTITIONS))
    assert partition_of("65f0c0ffee65f0c0ffee65f0") == 0
    assert {lane_of(number) for number in numbers} == set(range(-PARTITIONS, 0))


def test_ids_are_unambiguous() -> None:
    # Every text of up to two of the pieces that ids are joined and escaped with.
    parts = ["".join(text) for size in range(3) for text in product([":", "%", "3A"], repeat=size)]
    triples = list(product(parts, repeat=3))
    trigger_ids = {build_trigger_id(*triple): triple for triple in triples}
    assert len(trigger_ids) == len(triples)
    assert all(parse_trigger_id(one) == triple for one, triple in trigger_ids.items())
    assert len({build_contact_id(*pair) for pair in product(parts, repeat=2)}) == len(parts) ** 2


def test_plain_ids_stay_readable() -> None:
    assert build_trigger_id("178", "message", "aWdf:1%") == "178:message:aWdf:1%"
    assert build_contact_id("a1", "comment:178") == "a1:comment:178"


def test_times_are_cut_not_rounded() -> None:
    moment = datetime(2026, 11, 23, 10, 0, 0, 999_999, tzinfo=UTC)
    assert truncate_to_milliseconds(moment) == moment.replace(microsecond=999_000)

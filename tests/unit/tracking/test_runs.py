"""The rules of counting, proven against a model too simple to be wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count, pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.triggers import MILLISECOND, T0, WINDOW, make_trigger
from tracking.clock import truncate_to_milliseconds
from tracking.ids import build_contact_id, build_trigger_id, parse_trigger_id
from tracking.runs import (
    Claim,
    FlushPlan,
    Outcome,
    Planned,
    Trigger,
    is_duplicate,
    plan_flush,
    plan_replay,
)

# Steps of a quarter of the window meet its edges exactly; a millisecond stands beside them.
arrivals = st.builds(
    lambda quarters, ms: T0 + quarters * WINDOW / 4 + ms * MILLISECOND,
    st.integers(0, 20),
    st.sampled_from([-1, 0, 1]),
)
events = st.tuples(st.integers(1, 12), st.sampled_from(["a1", "a2"]), st.sampled_from("pqr"))


def plan(
    triggers: list[Trigger],
    *,
    claims: dict[str, Claim] | None = None,
    known: set[str] | None = None,
    run_ids: count[int] | None = None,
) -> FlushPlan:
    ids = [build_trigger_id(t.account_id, t.kind, t.event_id) for t in triggers]
    return plan_flush(
        triggers,
        ids,
        known_ids=known or set(),
        claims={} if claims is None else claims,
        window=WINDOW,
        run_ids=run_ids or count(1),
    )


@pytest.mark.parametrize(
    ("after", "outcome"),
    [
        (timedelta(0), Outcome.DUPLICATE),
        (WINDOW - MILLISECOND, Outcome.DUPLICATE),
        (WINDOW, Outcome.DUPLICATE),
        (WINDOW + MILLISECOND, Outcome.COUNTED),
        (-MILLISECOND, Outcome.DUPLICATE),
    ],
    ids=["0", "59:59.999", "60:00.000", "60:00.001", "before"],
)
def test_window_edge(after: timedelta, outcome: Outcome) -> None:
    assert is_duplicate(T0 + after, T0, WINDOW) is (outcome is Outcome.DUPLICATE)
    result = plan([make_trigger(), make_trigger(arrived_at=T0 + after)])
    assert result.outcomes == [Outcome.COUNTED, outcome]
    stored = {"a1:p1": Claim(last_run_at=T0, last_run_id="run", is_stored=True)}
    assert plan([make_trigger(arrived_at=T0 + after)], claims=stored).outcomes == [outcome]


def test_a_pair_without_a_run_is_counted() -> None:
    assert not is_duplicate(T0, None, WINDOW)


def test_an_old_duplicate_does_not_move_the_window_back() -> None:
    result = plan([make_trigger(), make_trigger(arrived_at=T0 - WINDOW / 2)])
    assert result.claims["a1:p1"].last_run_at == T0
    assert result.outcomes[1] is Outcome.DUPLICATE


def test_duplicates_name_the_run_they_belong_to() -> None:
    stored = {"a1:p1": Claim(last_run_at=T0, last_run_id="stored", is_stored=True)}
    first, later, last = plan(
        [
            make_trigger(arrived_at=T0 + WINDOW),
            make_trigger(arrived_at=T0 + WINDOW + MILLISECOND),
            make_trigger(arrived_at=T0 + WINDOW + MILLISECOND),
        ],
        claims=stored,
    ).planned
    assert (first.outcome, first.run_id) == (Outcome.DUPLICATE, "stored")
    assert (later.outcome, later.run_id) == (Outcome.COUNTED, 1)
    assert (last.outcome, last.run_id) == (Outcome.DUPLICATE, 1)


def test_new_people_are_new_once() -> None:
    result = plan(
        [
            make_trigger(user_id="new"),
            make_trigger(user_id="new", arrived_at=T0 + 2 * WINDOW),
            make_trigger(user_id="old", arrived_at=T0 + 2 * WINDOW),
        ],
        claims={"a1:old": Claim(last_run_at=T0, is_stored=True)},
    )
    assert [item.is_new_person for item in result.planned] == [True, False, False]
    assert result.claims["a1:new"].new_runs == 2
    assert result.claims["a1:new"].first_run_at == T0


def test_an_event_is_planned_once_whoever_matches_it() -> None:
    first = make_trigger(event_id="same")
    other_rules = make_trigger(event_id="same", automation_id="a2", user_id="p2")
    assert plan([first, other_rules]).outcomes == [Outcome.COUNTED, Outcome.REDELIVERED]
    known = {build_trigger_id(first.account_id, first.kind, first.event_id)}
    assert plan([other_rules], known=known).outcomes == [Outcome.REDELIVERED]


@pytest.mark.parametrize("field", ["account_id", "kind"])
def test_the_same_id_of_another_account_or_kind_is_another_event(field: str) -> None:
    triggers = [make_trigger(event_id="e"), make_trigger(event_id="e", user_id="q", **{field: "x"})]
    assert plan(triggers).outcomes == [Outcome.COUNTED, Outcome.COUNTED]


@given(st.lists(st.tuples(events, arrivals), max_size=40), st.data())
def test_plans_equal_a_naive_model_however_events_are_batched(
    arriving: list[tuple[tuple[int, str, str], datetime]], data: st.DataObject
) -> None:
    """Flush by flush, the state carried on as the database does, against lists of times."""
    triggers = [
        make_trigger(event_id=str(event), automation_id=automation, user_id=person, arrived_at=at)
        for (event, automation, person), at in arriving
    ]
    counted: dict[tuple[str, str], list[datetime]] = {}
    seen: set[str] = set()
    expected: list[Outcome] = []
    for trigger in triggers:
        runs = counted.setdefault((trigger.automation_id, trigger.user_id), [])
        if trigger.event_id in seen:
            expected.append(Outcome.REDELIVERED)
        elif any(trigger.arrived_at <= run + WINDOW for run in runs):
            expected.append(Outcome.DUPLICATE)
        else:
            expected.append(Outcome.COUNTED)
            runs.append(trigger.arrived_at)
        seen.add(trigger.event_id)

    outcomes: list[Outcome] = []
    claims: dict[str, Claim] = {}
    known: set[str] = set()
    run_ids = count(1)
    new_runs: dict[str, int] = {}
    while len(outcomes) < len(triggers):
        size = data.draw(st.integers(1, len(triggers) - len(outcomes)))
        batch = triggers[len(outcomes) : len(outcomes) + size]
        result = plan(batch, claims=claims, known=known, run_ids=run_ids)
        outcomes += result.outcomes
        known |= {item.trigger_id for item in result.planned}
        for contact_id, claim in result.claims.items():
            new_runs[contact_id] = new_runs.get(contact_id, 0) + claim.new_runs
        claims = {
            contact_id: Claim(claim.last_run_at, claim.last_run_id, is_stored=True)
            for contact_id, claim in result.claims.items()
        }
    assert outcomes == expected
    for (automation_id, person), runs in counted.items():
        assert all(later - earlier > WINDOW for earlier, later in pairwise(runs))  # I1
        assert new_runs.get(build_contact_id(automation_id, person), 0) == len(runs)


@given(st.lists(st.timedeltas(-WINDOW, 2 * WINDOW), max_size=30))
def test_every_duplicate_has_a_run_beside_it_when_arrivals_are_late_by_less_than_the_window(
    steps: list[timedelta],
) -> None:
    newest = T0
    triggers = []
    for step in steps:
        at = truncate_to_milliseconds(newest + step)
        newest = max(newest, at)
        triggers.append(make_trigger(arrived_at=at))
    planned = plan(triggers).planned
    runs = [item.trigger.arrived_at for item in planned if item.outcome is Outcome.COUNTED]
    for item in planned:
        if item.outcome is Outcome.DUPLICATE:  # I2
            assert any(abs(item.trigger.arrived_at - run) <= WINDOW for run in runs)


def replay(triggers: list[Trigger], runs: list[datetime]) -> list[Planned]:
    return plan_replay(
        triggers,
        [trigger.event_id for trigger in triggers],
        runs={"a1:p1": [(at, f"stored {number}") for number, at in enumerate(runs)]},
        people={"a1:p1"} if runs else set(),
        window=WINDOW,
        run_ids=count(1),
    )


@given(st.lists(arrivals, max_size=12), st.lists(arrivals, max_size=12))
def test_a_replay_keeps_runs_apart_and_leaves_no_duplicate_alone(
    stored: list[datetime], late: list[datetime]
) -> None:
    planned = replay([make_trigger(arrived_at=at) for at in late], stored)
    times = {f"stored {number}": at for number, at in enumerate(stored)}
    ours = []
    for item in planned:
        at = item.trigger.arrived_at
        if item.outcome is Outcome.COUNTED:  # I1
            assert all(abs(at - other) > WINDOW for other in times.values())
            times[item.run_id] = at
            ours.append(item)
        else:  # I2
            assert item.outcome is Outcome.DUPLICATE
            assert abs(times[item.run_id] - at) <= WINDOW
    assert [item.is_new_person for item in ours] == ([not stored, *[False] * len(ours)])[
        : len(ours)
    ]


@given(st.lists(st.tuples(events, arrivals), max_size=30))
def test_a_replay_in_the_order_of_arrival_equals_having_counted_at_once(
    arriving: list[tuple[tuple[int, str, str], datetime]],
) -> None:
    triggers = [
        make_trigger(event_id=str(number), automation_id=automation, user_id=person, arrived_at=at)
        for number, ((_, automation, person), at) in enumerate(
            sorted(arriving, key=lambda one: one[1])
        )
    ]
    at_once = plan(triggers).planned
    assert [
        (item.trigger_id, item.outcome, item.run_id, item.is_new_person)
        for item in plan_replay(
            triggers, [item.trigger_id for item in at_once],
            runs={}, people=set(), window=WINDOW, run_ids=count(1),
        )
    ] == [
        (item.trigger_id, item.outcome, item.run_id, item.is_new_person) for item in at_once
    ]  # fmt: skip


@pytest.mark.parametrize("sign", [1, -1])
def test_the_edge_of_the_window_on_either_side_of_a_late_trigger(sign: int) -> None:
    late = [make_trigger()]
    assert replay(late, [T0 + sign * WINDOW])[0].outcome is Outcome.DUPLICATE
    assert replay(late, [T0 + sign * (WINDOW + MILLISECOND)])[0].outcome is Outcome.COUNTED


def test_a_late_trigger_is_stored_before_it_is_counted() -> None:
    claims = {"a1:p1": Claim(last_run_at=T0, is_stored=True)}
    late = make_trigger(arrived_at=T0 - 5 * WINDOW, is_late=True)
    result = plan([late, make_trigger(arrived_at=T0 + 2 * WINDOW)], claims=claims)
    assert result.outcomes == [Outcome.UNTRACKED, Outcome.COUNTED]
    assert result.claims["a1:p1"].new_runs == 1
    assert plan([late], known={result.planned[0].trigger_id}).outcomes == [Outcome.REDELIVERED]


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

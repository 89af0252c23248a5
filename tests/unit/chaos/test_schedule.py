from typing import Any

import pytest

from tests.chaos.cluster import find_longest_stall
from tests.chaos.faults import FAIL_POINTS
from tests.chaos.schedule import KILLS, build_schedule


def test_schedule_follows_from_the_seed() -> None:
    assert build_schedule(7, 50) == build_schedule(7, 50)
    assert build_schedule(7, 50) != build_schedule(8, 50)


@pytest.mark.parametrize("kills", [1, 2, 10, 37, 200])
def test_schedule_has_the_kills_that_were_asked_for(kills: int) -> None:
    assert sum(step.kills for step in build_schedule(1, kills)) == kills


def test_short_run_has_every_kind_of_blow() -> None:
    for seed in range(20):
        assert {step.target for step in build_schedule(seed, 10)} == set(KILLS)


def test_long_run_meets_every_fault() -> None:
    met = {step.fault for step in build_schedule(1, 200)}
    # The election errors take turns.
    elections = {name for name in FAIL_POINTS if name.startswith("election error ")}
    assert met == (set(FAIL_POINTS) - elections) | {"none", "election errors", "step down"}


@pytest.mark.parametrize(
    ("outages", "expected"),
    [
        *[([], 5.0), ([(3.0, 7.0)], 3.0), ([(3.0, 4.0)], 4.0), ([(3.0, 4.0), (3.5, 5.0)], 3.0)],
        *[([(0.0, 20.0)], 0.0), ([(11.0, 12.0)], 5.0)],
    ],
)
def test_longest_stall_is_the_longest_gap_without_outages(outages: Any, expected: float) -> None:
    # Gaps: 2 at the start, 5 from 2 to 7, 3 to the end.
    assert find_longest_stall([7.0, 2.0], 0.0, 10.0, outages).seconds == expected

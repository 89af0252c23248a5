from pathlib import Path
from typing import Any

import pytest

from tests.chaos.__main__ import SCENARIOS, main
from tests.chaos.cluster import find_longest_stall
from tests.chaos.faults import FAIL_POINTS
from tests.chaos.readings import Trend, is_bounded, measure_trend
from tests.chaos.scenario import Scenario
from tests.chaos.schedule import KILLS, build_schedule


def test_one_broken_promise_is_the_exit_code(monkeypatch: Any, tmp_path: Path) -> None:
    ran = []

    def keep(*_: object) -> bool:
        ran.append("kept")
        return True

    def stumble(*_: object) -> bool:
        raise TimeoutError("nothing moves")

    kept = Scenario("keeps", {}, keep)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setitem(SCENARIOS, "kept", kept)
    assert main(["kept"]) == 0
    runs = {"stumbles": stumble, "says no": lambda *_: False}
    for summary, run in runs.items():
        broken = Scenario(summary, {}, run)
        monkeypatch.setitem(SCENARIOS, "broken", broken)
        assert main(["broken", "kept"]) == 1
    assert ran == ["kept"] * 3


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


def measure(*values: float) -> Trend:
    return measure_trend([(at * 60.0, {"web memory": value}) for at, value in enumerate(values)],
                         "web memory")  # fmt: skip


def test_what_fills_up_and_stays_is_bounded() -> None:
    trend = measure(10, 60, *(100.0,) * 18)
    assert trend == Trend(start=35, middle=100, end=100, slope=0)
    assert is_bounded(trend, slack=0)


def test_what_goes_on_growing_is_not() -> None:
    trend = measure(*range(0, 200, 10))
    assert trend.slope == pytest.approx(10)
    assert not is_bounded(trend, slack=16)
    assert not is_bounded(measure(*(50.0,) * 15, *(70.0,) * 5), slack=10)

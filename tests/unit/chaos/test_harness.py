import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.__main__ import SCENARIOS, main, read_arguments
from tests.chaos.cluster import find_longest_stall
from tests.chaos.faults import FAIL_POINTS
from tests.chaos.readings import Trend, is_bounded, measure_trend, read_processes
from tests.chaos.scenario import Scenario
from tests.chaos.schedule import KILLS, build_schedule
from tests.support.processes import list_descendants, read_command


def test_without_a_name_all_run_with_the_options_that_each_has() -> None:
    chosen = read_arguments(["--seed", "2"])
    assert list(chosen) == list(SCENARIOS)
    assert {options.seed for options in chosen.values()} == {2}


def test_one_is_named_with_its_options() -> None:
    chosen = read_arguments(["counting", "--kills", "20", "--events", "5000"])
    assert chosen == {"counting": Namespace(seed=1, kills=20, events=5000, freeze_seconds=30.0)}


@pytest.mark.parametrize("words", [["nobody"], ["counting", "--kil", "3"], ["--wrong"]])
def test_what_nobody_knows_is_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_arguments(words)
    assert ended.value.code == 2


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


def test_a_few_readings_are_no_trend() -> None:
    with pytest.raises(ValueError, match="was read 2 times"):
        measure(1, 2)


def test_a_process_has_memory_files_and_threads() -> None:
    found = read_processes({"web": [os.getpid()], "gone": [2**22 + 1]})
    assert found.keys() == {"web memory", "web files", "web threads"}
    assert found["web memory"] > 1
    assert found["web threads"] >= 1
    assert os.getpid() in list_descendants(os.getppid())
    assert "python" in read_command(os.getpid())
    assert read_command(2**22 + 1) == ""

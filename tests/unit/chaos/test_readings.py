import os

import pytest

from tests.chaos.readings import Trend, is_bounded, measure_trend, read_processes
from tests.support.processes import list_descendants, read_command


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

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.__main__ import SCENARIOS, main, read_arguments
from tests.chaos.scenario import Scenario


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

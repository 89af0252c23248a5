"""A short run of `make chaos`: nothing lost, nothing counted twice."""

import re
import subprocess
import sys

from tests.web_server import ROOT

KILLS, EVENTS = 10, 3000


def test_ten_kills_lose_nothing_and_count_nothing_twice() -> None:
    arguments = ("--seed", "1", "--kills", str(KILLS), "--events", str(EVENTS))
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "counting", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = dict(re.findall(r"^([a-z ]+?) {2,}(\d+)", done.stdout, re.MULTILINE))
    assert (figures["lost"], figures["double"]) == ("0", "0")
    assert int(figures["acknowledged"]) >= EVENTS

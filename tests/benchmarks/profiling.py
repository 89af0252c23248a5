"""`BENCH_PROFILE=1`: where the web processes spend their time, by py-spy, per row and candidate.

Only of our own candidates. It slows what it looks at: such figures never go into RESULTS.md.
"""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.bench import Bench, say
from tests.benchmarks.candidates import ROOT, Running

_SHOWN = 28


@contextmanager
def profile(
    bench: Bench, running: Running, *, seconds: float, is_on: bool = True
) -> Iterator[None]:
    """Record the processes of a candidate while the body runs, and print what was hot."""
    if not (is_on and bench.options.has_profile and running.candidate.is_ours):
        yield
        return
    beside = Path(sys.executable).parent
    program = shutil.which("py-spy", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        say("    BENCH_PROFILE needs py-spy: pip install -r tests/benchmarks/requirements.txt")
        yield
        return
    output = bench.server.directory / "profile.txt"
    recorder = subprocess.Popen(
        [
            *(program, "record", "--pid", str(running.process.pid), "--subprocesses"),
            # Who holds the GIL is what computes; the rest waits, or is native and not ours.
            *("--rate", "250", "--gil", "--nonblocking", "--full-filenames"),
            *("--duration", str(max(int(seconds), 1))),
            *("--format", "raw", "--output", str(output)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield
    recorder.wait(60)
    _print(output)


def _print(path: Path) -> None:
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    total = 0
    for line in path.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame for frame in stack.split(";") if not frame.startswith("process ")]
        if not frames:
            continue
        total += int(count)
        own[_shorten(frames[-1])] += int(count)
        for frame in {_shorten(frame) for frame in frames if str(ROOT) in frame}:
            within[frame] += int(count)
    for title, counts in (("itself", own), ("ours, with all it calls", within)):
        say(f"    {total} samples with the GIL held, {title}:")
        for frame, samples in counts.most_common(_SHOWN):
            say(f"      {samples / max(total, 1):6.1%}  {frame}")


def _shorten(frame: str) -> str:
    """Return 'function (package/file.py)' without the line and the directories before it."""
    name, _, place = frame.partition(" (")
    file = "/".join(place.rstrip(")").partition(":")[0].split("/")[-2:])
    return f"{name} ({file})"

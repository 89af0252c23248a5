"""`python -m tests.chaos [scenario ...] [options]`: exits with 1 when a promise was broken.

Without a name all scenarios run. Options go to every scenario that has them.
"""

import argparse
import logging
import shutil
import sys
import tempfile
import traceback
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from tests.chaos import attacks, counting, failover, neighbours, sending, soak
from tests.chaos.scenario import Scenario, say

# In the order in which they run.
SCENARIOS: dict[str, Scenario] = {
    "counting": counting.SCENARIO,
    "sending": sending.SCENARIO,
    "failover": failover.SCENARIO,
    "attacks": attacks.SCENARIO,
    "crowd": neighbours.SCENARIO,
    "soak": soak.SCENARIO,
}


def main(words: Sequence[str]) -> int:
    chosen = read_arguments(words)
    logging.basicConfig(level=logging.CRITICAL)  # mongod's end is no news here
    broken = [name for name, options in chosen.items() if not run_scenario(name, options)]
    if broken:
        say(f"Promises were broken in: {', '.join(broken)}")
    return 1 if broken else 0


def read_arguments(words: Sequence[str]) -> dict[str, argparse.Namespace]:
    """Return the options of each scenario that was chosen. Ends the process for wrong ones."""
    names = list(takewhile(lambda word: not word.startswith("-"), words))
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        usage="%(prog)s [scenario ...] [options]",
        description="Break things under load, and count again what was promised.",
        epilog="\n".join(build_parser(name).format_help() for name in SCENARIOS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if {"-h", "--help"} & set(words):
        parser.parse_args(["-h"])
    if strange := set(names) - set(SCENARIOS):
        parser.error(f"no scenario {' '.join(sorted(strange))}; there are: {', '.join(SCENARIOS)}")
    rest = words[len(names) :]
    read = {name: build_parser(name).parse_known_args(rest) for name in names or SCENARIOS}
    # What one scenario does not know is for another; what none knows is a mistake.
    unknown = set.intersection(*(set(left) for _, left in read.values()))
    if unknown:
        parser.error(f"nobody knows {' '.join(sorted(unknown))}")
    return {name: options for name, (options, _) in read.items()}


def build_parser(name: str) -> argparse.ArgumentParser:
    scenario = SCENARIOS[name]
    parser = argparse.ArgumentParser(
        prog=f"python -m tests.chaos {name}",
        description=scenario.summary,
        add_help=False,
        allow_abbrev=False,
    )
    for option, (default, help_) in {"seed": (1, ""), **scenario.options}.items():
        parser.add_argument(f"--{option}", type=type(default), default=default, help=help_)
    return parser


def run_scenario(name: str, options: argparse.Namespace) -> bool:
    """Run one in a directory that is kept if it fails; return whether it kept its promises."""
    directory = Path(tempfile.mkdtemp(prefix=f"chaos-{name}-"))
    sys.stdout.write(f"== {name}, seed {options.seed} ==\n")
    sys.stdout.flush()
    is_clean = False
    try:
        is_clean = SCENARIOS[name].run(directory, options)
    except Exception:  # noqa: BLE001 - the others run all the same
        traceback.print_exc()
    finally:
        if is_clean:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            say(f"Logs and data are kept in {directory}")
    return is_clean


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What a scenario is, and how it tells what it found."""

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

_MOST_SHOWN = 10
# What the breach of a promise means; everything else is "broken".
_KINDS = {"I1": "double", "I3": "double", "I5": "lost"}


class Scenario(msgspec.Struct, frozen=True):
    """Something that is done to the system, and the promises that it must keep meanwhile.

    `options` have a default, whose type they take, and what they are; `--seed` is every
    scenario's. `run` does it in an empty directory with them, prints its figures and returns
    whether every promise was kept; an exception is a promise broken too.
    """

    summary: str
    options: Mapping[str, tuple[float, str]]
    run: Callable[[Path, Namespace], bool]


def print_figures(rows: Mapping[str, object]) -> None:
    sys.stdout.write("".join(f"{name:<14}{value}\n" for name, value in rows.items()))
    sys.stdout.flush()


def print_wrong(lines: Iterable[str]) -> None:
    for line in list(lines)[:_MOST_SHOWN]:
        say(f"WRONG: {line}")


def summarize_broken(lines: Iterable[str]) -> dict[str, object]:
    """Return figures for the oracle's lines: what is lost, what is double, and the rest."""
    found = Counter(_KINDS.get(line[:2], "broken") for line in lines)
    return {kind: found[kind] for kind in ("lost", "double", "broken")}


def say(text: str) -> None:
    """Print progress where it does not mix with the result."""
    sys.stderr.write(f"{text}\n")

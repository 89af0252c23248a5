"""What is killed, in which order, and which fault it meets: all from the seed (pure)."""

from collections.abc import Iterator
from random import Random

import msgspec

# Ten kills. A "process" is one that answers, a "server" all processes of an address, "power" is
# everything at the same instant and counts as three; a "frozen" counter goes on later.
_DECK = ("process", "process", "server", "mongod", "counter", "counter", "frozen", "power")
KILLS = {"process": 1, "server": 1, "mongod": 1, "counter": 1, "frozen": 1, "power": 3}
# What MongoDB does before and while the blow falls; now and then, nothing.
_FAULTS = (
    *("none",) * 3,
    "connection lost",
    "reply lost after the write",
    "reply lost after the commit",
    "election errors",
    "shutdown errors",
    "slow commit",
    "slow writes",
    "step down",
)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One blow: it falls `delay` seconds after the fault began."""

    target: str
    fault: str
    number: int  # which of the two, where one is meant
    delay: float

    @property
    def kills(self) -> int:
        return KILLS[self.target]


def build_schedule(seed: int, kills: int) -> list[Step]:
    """Return the steps of a run: at least `kills` kills, every kind of blow early on."""
    random = Random(f"chaos:{seed}")
    steps: list[Step] = []
    targets, faults = _deal(random, _DECK), _deal(random, _FAULTS)
    left = kills
    while left > 0:
        target = next(targets)
        if KILLS[target] > left:
            continue
        steps.append(
            Step(
                target=target,
                fault=next(faults),
                number=random.randrange(2),
                delay=random.uniform(0.3, 1.0),
            )
        )
        left -= KILLS[target]
    return steps


def _deal(random: Random, deck: tuple[str, ...]) -> Iterator[str]:
    """Yield every card of a shuffled deck before any comes again."""
    while True:
        cards = list(deck)
        random.shuffle(cards)
        yield from cards

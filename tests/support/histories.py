"""The strategies that make up histories: deliveries, the clock, and what goes wrong meanwhile."""

from dataclasses import dataclass
from datetime import timedelta

from bson import ObjectId
from hypothesis import strategies as st

from tests.support.triggers import MILLISECOND, WINDOW
from tests.support.wire import Place

# An id that is text, one that is an ObjectId, and one whose automation was deleted.
AUTOMATIONS = ("a1", ObjectId("65f0c0ffee65f0c0ffee65f0"), "gone")
PEOPLE = ("p1", "p2", "p3")
DAY = timedelta(days=1)

# Both edges of the window, and what lies a millisecond beside them.
EDGES = [step * WINDOW + ms * MILLISECOND for step in (1, 0, -1) for ms in (0, 1, -1)]
STEPS = [timedelta(0), timedelta(0), MILLISECOND, timedelta(minutes=30), *EDGES[:3], 5 * WINDOW]
JUMPS = [*STEPS[2:], DAY, 6 * DAY]


@dataclass(frozen=True)
class Item:
    """An event of a delivery: a new one, or the one sent `again` events before.

    A tap on a button carries a run on, and never counts.
    """

    automation: int
    person: int
    again: int | None
    is_tap: bool = False


@dataclass(frozen=True)
class Delivery:
    """Events that arrive together: `ago`, or at a `distance` from the run `near` the newest."""

    items: list[Item]
    ago: timedelta
    near: int | None
    distance: timedelta


@dataclass(frozen=True)
class Fault:
    """What happens at one command of an operation, before it is sent or after its reply came."""

    kind: str
    place: Place
    is_after_reply: bool
    deliveries: list[Delivery]


# The commands of counting, those that a crash may undo first; a number is any command at all.
WRITES: list[Place] = [
    ("commitTransaction", ""),
    ("commitTransaction", "automation_triggers"),
    ("update", "automation_triggers"),
    ("update", "tracking_partitions"),
    ("findAndModify", "tracking_partitions"),
    ("insert", "automation_runs"),
    ("update", "automation_run_stats"),
    ("insert", "automation_contacts"),
    ("update", "automation_contacts"),
    ("update", "automations"),
]
OTHERS: list[Place] = [
    *(("find", f"tracking_{name}") for name in ("switch", "partitions")),
    *(("find", f"automation_{name}") for name in ("triggers", "contacts", "run_stats")),
    ("insert", "automation_run_stats"),
]

automations = st.sampled_from([0, 0, 0, 1, 1, 2])
people = st.sampled_from([0, 0, 1, 2])
items = st.builds(
    Item,
    automation=automations,
    person=people,
    again=st.none() | st.none() | st.integers(0, 7),
    is_tap=st.sampled_from([False] * 7 + [True]),
)
deliveries = st.builds(
    Delivery,
    items=st.lists(items, min_size=1, max_size=5),
    ago=st.sampled_from([*STEPS, 2 * DAY]),
    near=st.none() | st.integers(0, 5),
    distance=st.sampled_from(EDGES),
)
batches = st.lists(deliveries, min_size=1, max_size=3)
places = st.sampled_from(WRITES) | st.sampled_from(OTHERS) | st.integers(0, 24)


# What may happen at a command: the process dies; its lease runs out and another counts on; another
# counts, stores, folds, or adds fields; or the replies of its commits are lost.
faults = st.builds(
    Fault,
    kind=st.sampled_from(
        ["crash", "crash", "fence", "fence", "count", "store", "off", "fold", "recount", "reply"]
    ),
    place=places,
    is_after_reply=st.booleans(),
    deliveries=st.lists(deliveries, min_size=1, max_size=2),
)
# Of an older product: automation, person, quarters of an hour before the start, milliseconds too.
earlier_runs = st.lists(
    st.tuples(automations, people, st.integers(0, 12) | st.integers(0, 36 * 24), st.booleans()),
    max_size=6,
)
stored_totals = st.lists(st.sampled_from([None, 0, 2, 7]), min_size=2, max_size=2)

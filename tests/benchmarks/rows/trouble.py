"""What keeps counting from its work keeps no delivery from its answer."""

from typing import Any, NamedTuple

from pymongo.database import Database

from tests.benchmarks.bench import Bench
from tests.benchmarks.candidates import run_command, serve
from tests.benchmarks.figures import Table
from tests.benchmarks.loads import Contestant, Plan, run_load

_CONNECTIONS = 64
_INDEX = "not_ours"


class Trouble(NamedTuple):
    """Something that is wrong; an index that is not ours, or counting is off."""

    is_off: bool = False
    index: dict[str, Any] | None = None


TROUBLES = {
    "as usual": Trouble(),
    "counting off": Trouble(is_off=True),
    # No second run can be inserted.
    "odd index": Trouble(index={"unique": True}),
    # No second run of one automation can be.
    "poison": Trouble(
        index={
            "unique": True,
            "partialFilterExpression": {"automationId": "automation-0000"},
        }
    ),
}


def run(bench: Bench) -> list[Table]:
    """Return the row: acknowledged single deliveries, with each trouble on its own database."""
    entries = []
    for candidate in (serve(2), *bench.before.list_servers(2)):
        for name in TROUBLES:
            plan = Plan(1, _CONNECTIONS, name=f"{candidate.name}, {name}")
            entries.append((candidate, plan))
    results = run_load(bench, entries, prepare=_begin, repair=_end)
    for result in results:
        result.values = result.acknowledged
    return [
        Table(
            key="trouble",
            title=f"Answers while counting is in trouble, {_CONNECTIONS} connections",
            note="Deliveries of 1 event. Afterwards the trouble ends, and everything is counted.",
            unit="events/s acknowledged",
            results=results,
            columns=("p50", "p99", "longest", "web", "mongod"),
        )
    ]


def _find(one: Contestant) -> Trouble:
    return TROUBLES[one.result.name.rpartition(", ")[2]]


def _get_database(one: Contestant) -> Database[dict[str, Any]]:
    return one.bench.server.get_database(one.running.database)


def _begin(one: Contestant) -> None:
    trouble = _find(one)
    one.is_counting = trouble == Trouble()
    if trouble.is_off:
        _switch(one, "off")
    if trouble.index is not None:
        runs = _get_database(one)["automation_runs"]
        runs.create_index("triggerType", name=_INDEX, **trouble.index)


def _end(one: Contestant) -> None:
    trouble = _find(one)
    if trouble.index is not None:
        _get_database(one)["automation_runs"].drop_index(_INDEX)
        try:
            _switch(one, "retry")
        except RuntimeError:  # an older commit, which has nothing to try again
            _switch(one, "on")
    if trouble.is_off:
        _switch(one, "on")
    one.is_counting = True
    one.send_refused_again()


def _switch(one: Contestant, action: str) -> None:
    uri = one.bench.server.build_uri(one.running.database)
    run_command("tracking", action, uri=uri, root=one.running.candidate.root)

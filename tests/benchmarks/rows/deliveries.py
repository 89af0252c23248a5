"""Deliveries of 1, 100 and 1000 events, as fast as they are acknowledged."""

from tests.benchmarks.bench import Bench, say
from tests.benchmarks.candidates import Running, granian, gunicorn, null_server
from tests.benchmarks.client import Lane, run_lanes
from tests.benchmarks.figures import Table
from tests.benchmarks.loads import Contestant, Plan, run_load, set_up_automations
from tests.benchmarks.workload import Workload

# Events in a delivery -> connections.
CONNECTIONS = {1: 64, 100: 8, 1000: 4}
_ONE_CONNECTIONS = 16
_COSTS = ("p50", "p99", "longest", "web", "mongod")
_PEERS = ("naive", "fair")
_COLUMNS = (*_PEERS, "floor", "acknowledged", "lag", *_COSTS)
_NOTE = "200 automations on 20 accounts; every event a new person."
_SUSTAINED_SECONDS = 30.0
_REPLAYED_DELIVERIES = 32
_THREADS = (8, 32, 64)
_CEILING_REQUESTS = {1: 2000, 100: 200, 1000: 40}


def measure_ceiling(bench: Bench) -> str:
    """Return a sentence with what the load generator itself can send to a server of nothing."""
    set_up = set_up_automations()
    parts = []
    log_path = bench.directory / "null.log"
    with Running(null_server(), database=None, uri="", log_path=log_path) as null:
        for events, connections in CONNECTIONS.items():
            built = Workload(set_up, events=events).build(_CEILING_REQUESTS[events])
            requests = [one.request for one in built]
            lane = Lane(null.port, requests, connections=connections, is_endless=True)
            run_lanes([lane], seconds=1.0)
            parts.append(f"{len(lane.answers) / lane.seconds:,.0f} of {events}")
    return f"the load generator's own ceiling, deliveries/s: {', '.join(parts)} events"


def run(bench: Bench, events: int) -> list[Table]:
    plan = Plan(events, CONNECTIONS[events])
    entries = [(one, plan) for one in bench.line_up(more=[1], has_port=True)]
    noun = "event" if events == 1 else "events"
    title = f"Deliveries of {events} {noun}, {plan.connections} connections"
    results = run_load(bench, entries, has_floor=True, weighs=events == 100)
    return [Table(str(events), title, _NOTE, "events/s counted", results, columns=_COLUMNS)]


def run_alone(bench: Bench) -> list[Table]:
    results = run_load(bench, [(one, Plan(1, 1)) for one in bench.line_up(has_port=True)])
    title = "One delivery of 1 event at a time"
    return [Table("alone", title, _NOTE, "events/s counted", results, columns=_COLUMNS)]


def run_sustained(bench: Bench) -> list[Table]:
    plan = Plan(100, CONNECTIONS[100])
    entries = [(one, plan) for one in bench.line_up()]
    results = run_load(bench, entries, once_for=_SUSTAINED_SECONDS)
    title = f"Deliveries of 100 events, {plan.connections} connections, sustained"
    return [Table("sustained", title, _NOTE, "events/s counted", results, columns=_COLUMNS)]


def run_one(bench: Bench) -> list[Table]:
    """A viral post: all events on one automation, beside the same load on 200 automations."""
    entries = []
    for candidate in bench.line_up(more=[4], modes=["fair"]):
        for is_one in (True, False) if candidate.is_ours else (True,):
            where = "one automation" if is_one else "200 automations"
            name = f"{candidate.name}, {where}"
            entries.append((candidate, Plan(100, _ONE_CONNECTIONS, is_one=is_one, name=name)))
    note = f"Deliveries of 100 events, {_ONE_CONNECTIONS} connections."
    columns = ("fair", "acknowledged", "lag", *_COSTS)
    title, unit = "All events on one automation", "events/s counted"
    return [Table("one", title, note, unit, run_load(bench, entries), columns=columns)]


def run_duplicates(bench: Bench) -> list[Table]:
    """Half of the events are duplicates, each while its original is under way."""
    plan = Plan(100, CONNECTIONS[100], is_doubled=True)
    results = run_load(bench, [(one, plan) for one in bench.line_up(has_port=True)])
    note = (
        f"Deliveries of 100 events, {plan.connections} connections. Of each two neighbours the "
        "second has the same people, commenting again."
    )
    columns = (*_PEERS, "acknowledged", "lag", *_COSTS)
    return [Table("duplicates", "50 % duplicates", note, "events/s", results, columns=columns)]


def run_replay(bench: Bench) -> list[Table]:
    """Everything comes again: 0 new counts."""
    plan = Plan(100, CONNECTIONS[100])
    deliveries = Workload(set_up_automations(), events=100).build(_REPLAYED_DELIVERIES)
    contestants = [Contestant(bench, one, plan) for one in bench.line_up()]
    for one in contestants:
        one.load(deliveries, seconds=60)

    def replay(one: Contestant) -> None:
        lane = one.build_lane(deliveries, is_endless=True)
        run_lanes([lane], seconds=bench.options.seconds)
        one.result.values.append(len(lane.list_acknowledged()) * 100 / lane.seconds)
        one.result.waits += [answer.seconds for answer in lane.answers]
        say(f"    {one.result.name}: {one.result.values[-1]:,.0f} events/s")

    bench.run_rounds(contestants, lambda _: replay, range(1, bench.options.rounds + 1))
    note = (
        f"The same {100 * _REPLAYED_DELIVERIES:,} events again and again, in deliveries of 100, "
        f"{plan.connections} connections: none may count."
    )
    results = [one.conclude() for one in contestants]
    columns = (*_PEERS, "p50", "p99", "longest")
    return [Table("replay", "Replay of everything", note, "events/s", results, columns=columns)]


def run_web_servers(bench: Bench) -> list[Table]:
    """Which web server `serve` should use, and with how many threads: `BENCH_ROWS=webserver`."""
    tables = []
    if gunicorn(1, 1) is None:
        say("gunicorn is left out: pip install -r tests/benchmarks/requirements.txt")
    for events, processes in ((1, 1), (1, 2), (100, 1), (100, 2)):
        found = [build(processes, threads) for threads in _THREADS for build in (granian, gunicorn)]
        plan = Plan(events, CONNECTIONS[events])
        title = f"Web server: {events} events, {processes} processes"
        say(f" {title}")
        wanted = [(one, plan) for one in found if one and bench.options.is_wanted(one.name)]
        key, note = f"webserver-{events}-{processes}", f"{plan.connections} connections."
        results = run_load(bench, wanted)
        tables.append(Table(key, title, note, "events/s", results, columns=_COSTS))
    return tables

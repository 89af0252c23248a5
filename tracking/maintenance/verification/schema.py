"""Fields, bases, indexes and times to live are as they are declared."""

from collections import Counter
from collections.abc import Collection, Iterator
from datetime import timedelta
from typing import Any

from tracking.ids import PERSON, list_all_forms, name_id
from tracking.maintenance.verification.findings import Finding, Scope, build_finding
from tracking.mongo.indexes import (
    COLLECTIONS,
    IndexState,
    compare_indexes,
    find_odd_kinds,
    list_indexes,
    list_obstacles,
)
from tracking.mongo.transactions import batched
from tracking.rollups.hours import (
    AHEAD,
    HAS_DATE,
    LARGEST_COUNT,
    UNDATED,
    build_base_id,
    find_count,
)

Document = dict[str, Any]

_BATCH = 1000
_FIX_FIELDS = "run 'python manage.py add_run_fields'"
_FIX_INDEXES = "run 'python manage.py add_run_indexes'"
_NEWEST = 20_000
_ID_TYPES = ["string", "objectId", "int", "long", "double", "decimal", "binData"]
_FIX_FUTURE = "run 'python manage.py reconcile_runs'; correct the createdAt of others' runs"
_ODD_RUNS = {
    "automation": ("runs without one automation", "give them an automationId that is an id"),
    "person": ("runs without a person", "give them a userId that is text, or leave them"),
    "time": ("runs that no window holds", "give them a createdAt that is a date, or leave them"),
    "future": ("runs in the future", _FIX_FUTURE),
}  # fmt: skip
# MongoDB looks once a minute; a backlog after `add_run_indexes` takes longer.
MARGIN = timedelta(hours=1)
_MOST = 100_000


def check_fields(scope: Scope) -> Iterator[Finding]:
    """`totalRuns` is a number and `lastRunAt` a time or null; bases are taken, hours are built."""
    automations, stats = scope.database["automations"], scope.database["automation_run_stats"]
    # `$type` matches what an array holds as well: those are no numbers.
    wrong_types = {
        "$or": [
            {"totalRuns": {"$not": {"$type": ["int", "long", "double"]}}},
            {"totalRuns": {"$type": "array"}},
            {"totalRuns": {"$gt": LARGEST_COUNT}},
            {"lastRunAt": {"$exists": False}},
            {"lastRunAt": {"$not": {"$type": ["date", "null"]}}},
        ]
    }
    odd = list(automations.find(wrong_types, {"totalRuns": 1}))
    unclear = [name_id(one["_id"]) for one in odd if find_count(one.get("totalRuns")) is None]
    wrong = {name_id(one["_id"]) for one in odd}.difference(unclear)
    figure = f"{len(wrong)} without or of another type"
    yield build_finding("run fields of automations", figure, named=wrong, fix=_FIX_FIELDS)
    figure = f"{len(unclear)} kept as they are"
    fix = f"set totalRuns to a number or to null, then {_FIX_FIELDS}"
    yield build_finding("totals that are no numbers", figure, named=unclear, fix=fix)
    without = list(_list_without_base(automations, stats))
    open_bases = stats.find({"rollupsSince": {"$type": "date"}}, {"automationId": 1})
    unfinished = [one["automationId"] for one in open_bases]
    figure = f"{len(without)} without a base, {len(unfinished)} with hours to build"
    named = {*without, *unfinished}
    yield build_finding("bases of totals", figure, named=named, fix=_FIX_FIELDS)


def _list_without_base(automations: Any, stats: Any) -> Iterator[str]:
    """Yield automations that had runs before us, by what they hold, and no base.

    One that is new has none until its first trigger, and holds 0.
    """
    has_runs = {"$or": [{"totalRuns": {"$nin": [0, None]}}, {"lastRunAt": {"$type": "date"}}]}
    for batch in batched(automations.find(has_runs, {"_id": 1}), _BATCH):
        ids = {build_base_id(name_id(one["_id"])): name_id(one["_id"]) for one in batch}
        query = {"_id": {"$in": list(ids)}, "base": {"$exists": True}}
        known = {one["_id"] for one in stats.find(query, {"_id": 1})}
        yield from (one for base_id, one in ids.items() if base_id not in known)


def check_ids(scope: Scope) -> Iterator[Finding]:
    """Find automations of one text form: they share their totals, runs and paths."""
    automations, is_object_id = scope.database["automations"], {"$type": "objectId"}
    others = automations.find({"_id": {"$not": is_object_id}}, {"_id": 1})
    keys = Counter(name_id(one["_id"]) for one in others)
    same = {"_id": {"$in": list_all_forms(keys), **is_object_id}}
    keys.update(str(one["_id"]) for one in automations.find(same, {"_id": 1}))
    shared = [f"{number} are {one}" for one, number in keys.items() if number > 1]
    figure = f"{sum(number for number in keys.values() if number > 1)} automations"
    fix = "give all but one of them another _id: nothing tells their runs apart"
    yield build_finding("automations of the same id", figure, named=shared, fix=fix)


def check_runs(scope: Scope) -> Iterator[Finding]:
    """Name runs that no automation, person, window or list has, each under its first fault."""
    odd_keys = scope.database["automations"].distinct(
        "_id", {"_id": {"$not": {"$type": _ID_TYPES}}}
    )
    is_known = [{"$in": [{"$type": "$automationId"}, _ID_TYPES]},
                {"$in": ["$automationId", {"$literal": odd_keys}]}]  # fmt: skip
    kind = {"$switch": {"branches": [
        {"case": {"$not": {"$or": is_known}}, "then": "automation"},
        {"case": {"$eq": [PERSON, None]}, "then": "person"},
        {"case": {"$not": HAS_DATE}, "then": "time"},
        {"case": {"$gt": ["$createdAt", scope.now + AHEAD]}, "then": "future"},
    ], "default": None}}  # fmt: skip
    found: dict[str, Document] = {}
    by_index = [*UNDATED, {"createdAt": {"$gt": scope.now + AHEAD}}]
    sources: list[tuple[list[Document], Collection[str]]] = [
        ([{"$match": {"$or": by_index}}], ("time", "future")),
        ([{"$sort": {"_id": -1}}, {"$limit": _NEWEST}], ("automation", "person")),
    ]
    for source, kinds in [([], _ODD_RUNS)] if scope.is_full else sources:
        group = {"_id": kind, "runs": {"$sum": 1}, "first": {"$first": "$_id"}}
        for row in scope.database["automation_runs"].aggregate([*source, {"$group": group}]):
            if row["_id"] in kinds:
                found[row["_id"]] = row
    for name, (what, fix) in _ODD_RUNS.items():
        row = found.get(name, {"runs": 0})
        named = [f"{name_id(row['first'])} is the first"] if row["runs"] else []
        yield build_finding(what, str(row["runs"]), named=named, fix=fix)
    ahead = {"lastRunAt": {"$gt": scope.now + AHEAD}}
    contacts = scope.database["automation_contacts"].count_documents(ahead, limit=_MOST)
    yield build_finding(
        "contacts in the future", str(contacts), is_ok=not contacts, fix=_FIX_FUTURE
    )


def check_indexes(scope: Scope) -> Iterator[Finding]:
    missing = set(COLLECTIONS) - set(scope.database.list_collection_names())
    figure = f"{len(COLLECTIONS) - len(missing)} of {len(COLLECTIONS)}"
    figure += ", missing" if missing else ""
    yield build_finding("collections", figure, "all", named=missing, fix=_FIX_INDEXES)
    named = [f"{name} {what}" for name, what in list_obstacles(scope.database).items()]
    fix = "do what 'add_run_indexes --dry-run' says of each"
    yield build_finding("what refuses our documents", f"{len(named)}", named=named, fix=fix)
    findings = compare_indexes(scope.database, list_indexes(scope.retention))
    wrong = [one for one in findings if one.state is not IndexState.PRESENT]
    figure = f"{len(findings) - len(wrong)} of {len(findings)}"
    fix = "see the next lines"
    yield build_finding("indexes", figure, "all as declared", is_ok=not wrong, fix=fix)
    for one in wrong:
        wanted = one.index.expire_after
        declared = "present" if wanted is None else f"TTL {int(wanted.total_seconds())} s"
        found = one.found.get("expireAfterSeconds", "none")
        figure = f"TTL {found} s" if one.state is IndexState.TTL_DIFFERS else one.state.value
        what = f"index {one.index.collection}.{one.index.name}"
        yield build_finding(what, figure, declared, is_ok=False, fix=_FIX_INDEXES)


def check_index_use(scope: Scope) -> Iterator[Finding]:
    """Say which indexes the server uses, and which are of another hand.

    https://www.mongodb.com/docs/manual/reference/operator/aggregation/indexStats/
    """
    declared = {(one.collection, one.name) for one in list_indexes(timedelta(days=1))}
    used: Counter[tuple[str, str]] = Counter()
    foreign: list[tuple[str, str]] = []
    for collection in set(COLLECTIONS) - find_odd_kinds(scope.database).keys():
        for one in scope.database[collection].aggregate([{"$indexStats": {}}]):
            name = (collection, one["name"])
            used[name] += one["accesses"]["ops"]
            if name not in declared and one["name"] != "_id_":
                foreign.append(name)
    known = declared & used.keys()
    yield build_finding(
        "indexes in use",
        f"{sum(used[one] > 0 for one in known)} of {len(known)} since MongoDB started, "
        f"{len(foreign)} that are not ours",
        "none of its own",
        named=[f"{'.'.join(one)} ({used[one]} times)" for one in foreign],
        is_ok=True,
    )


def check_expiry(scope: Scope) -> Iterator[Finding]:
    """Count what is past its time to live, at most 100,000 of each."""
    total, worst = 0, ""
    for index in list_indexes(scope.retention):
        if index.expire_after is None:
            continue
        [(field, _)] = index.keys
        oldest = scope.now - index.expire_after - MARGIN
        late = scope.database[index.collection].count_documents(
            {field: {"$lt": oldest}}, limit=_MOST
        )
        total += late
        worst += f", {late} of {index.collection}" if late else ""
    yield build_finding(
        "documents past their TTL",
        f"{total}{worst}",
        "0, an hour late at most",
        is_ok=not total,
        fix="a backlog after add_run_indexes is deleted within hours; else look at "
        "db.adminCommand({getParameter: 1, ttlMonitorEnabled: 1})",
    )

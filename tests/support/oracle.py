"""The oracle: count a database again from its raw documents, and name what does not hold.

It reads whole collections and knows no shortcut. Only for a database at rest that the TTL indexes
have taken nothing from.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from pymongo.database import Database

from tests.support.waiting import wait_until
from tracking.ids import LENIENT, list_names, list_stored_forms, name_id, name_person
from tracking.queries.stats import StatsStore
from tracking.rollups.hours import EARLIEST, IS_DATED, LATEST, find_count, hour_of

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def recount(
    db: Database[dict[str, Any]],
    *,
    window: timedelta = timedelta(hours=1),
    at: datetime | None = None,
    acknowledged: Mapping[str, tuple[str, str]] | None = None,
) -> list[str]:
    """Return every violation of I1-I5 and I8 as one sentence that begins with its number.

    Windows end at `at` (now). `acknowledged` has every trigger that must be there by its id, with
    its automation and person; without it nothing is said about I5.
    """
    db = db.client.get_database(db.name, codec_options=LENIENT)
    runs = [
        run | {"automationId": name, "userId": name_person(run.get("userId")) or "",
               "createdAt": find_date(run)}
        for run in db["automation_runs"].find()
        for name in list_names(run.get("automationId"))
    ]  # fmt: skip
    triggers = list(db["automation_triggers"].find())
    automations = {name_id(one["_id"]): one for one in db["automations"].find()}
    # An older product's runs name no event; what it counted twice is not ours to judge.
    ours = [run for run in runs if "eventId" in run]
    times: dict[tuple[str, str], list[tuple[datetime, bool]]] = defaultdict(list)
    for run in runs:
        if run["userId"] and run["createdAt"]:
            times[run["automationId"], run["userId"]].append((run["createdAt"], "eventId" in run))
    return [
        *_check_pairs(db, times, window),
        *_check_triggers(triggers, runs, times, window),
        *(() if acknowledged is None else _check_acknowledged(triggers, acknowledged)),
        *_check_totals(db, automations, runs, ours),
        *_check_rollups(db, runs),
        *_check_windows(db, automations, at or datetime.now(UTC)),
    ]


def find_date(run: Mapping[str, Any]) -> datetime | None:
    """Return a run's time, None if it has none that an hour holds."""
    at = run.get("createdAt")
    return at if isinstance(at, datetime) and EARLIEST <= at < LATEST else None


def wait_until_counted(db: Database[dict[str, Any]], *, seconds: float = 60.0) -> None:
    waiting = {"partition": {"$gte": 0}}
    triggers = db["automation_triggers"]
    wait_until(
        lambda: triggers.find_one(waiting) is None, seconds=seconds,
        what=lambda: f"counted: {triggers.count_documents(waiting)} triggers",
    )  # fmt: skip


def _check_pairs(db: Any, times: Any, window: timedelta) -> list[str]:
    contacts = {(c["automationId"], c["userId"]): c for c in db["automation_contacts"].find()}
    wrong = []
    for pair, runs in times.items():
        for (earlier, _), (later, is_ours) in pairwise(sorted(runs)):
            if is_ours and later - earlier <= window:
                wrong.append(f"I1: two runs of {pair} within the window, at {earlier} and {later}")
        counted = sum(is_ours for _, is_ours in runs)
        contact = contacts.get(pair)
        if contact is None:
            wrong += [f"I1: no contact of {pair}"] * bool(counted)
        elif contact["lastRunAt"] != max(runs)[0]:
            wrong.append(
                f"I1: contact of {pair} last ran at {contact['lastRunAt']}, not {max(runs)[0]}"
            )
        elif contact["runs"] - contact.get("earlier", 0) != counted:
            wrong.append(f"I1: contact of {pair} has {contact['runs']} runs, not {counted}")
    return wrong + [
        f"I1: contact of {pair} without a run" for pair in contacts.keys() - times.keys()
    ]


def _check_triggers(triggers: Any, runs: Any, times: Any, window: timedelta) -> list[str]:
    wrong = [f"I5: {one['_id']} is not counted" for one in triggers if "outcome" not in one]
    triggers = [one for one in triggers if "outcome" in one]
    wrong += [f"I5: {one['_id']} is still in the queue" for one in triggers if "partition" in one]
    ours = [run for run in runs if "eventId" in run]
    # Who was erased and wrote again inside the window: the trigger names the run, and alone does.
    erased = {
        (run["automationId"], name_id(run["_id"])): run["createdAt"]
        for run in runs
        if run["userId"].startswith("erased:")
    }
    for one in triggers:
        near = list(times.get((one["automationId"], one["userId"]), []))
        if (one["automationId"], name_id(one["runId"])) in erased:
            near.append((erased[one["automationId"], name_id(one["runId"])], True))
        if one.get("outcome") == "duplicate" and not any(
            abs(one["createdAt"] - at) <= window for at, _ in near
        ):
            wrong.append(f"I2: duplicate {one['_id']} without a run in the window")
    named = Counter(one["runId"] for one in triggers if one.get("outcome") == "counted")
    stored = Counter(run["_id"] for run in ours)
    wrong += [f"I3: run {one} has no trigger that counted it" for one in stored - named]
    return wrong + [
        f"I3: a counted trigger names run {one}, which is none" for one in named - stored
    ]


def _check_acknowledged(triggers: Any, acknowledged: Mapping[str, tuple[str, str]]) -> list[str]:
    found = {
        one["_id"]: ((one["automationId"], one["userId"]), one.get("outcome")) for one in triggers
    }
    wrong = [f"I3: trigger {one} of no acknowledged event" for one in found.keys() - acknowledged]
    for trigger_id, pair in acknowledged.items():
        stored, outcome = found.get(trigger_id, (pair, "missing"))
        if stored != pair:
            wrong.append(f"I5: trigger {trigger_id} is stored for {stored}, not {pair}")
        if outcome not in ("counted", "duplicate"):
            wrong.append(f"I5: trigger {trigger_id} of {pair} is {outcome}")
    return wrong


def _check_totals(db: Any, automations: Any, runs: Any, ours: Any) -> list[str]:
    stats = db["automation_run_stats"].find({"hour": {"$exists": False}})
    bases = {one["automationId"]: one for one in stats}
    existing = Counter(run["automationId"] for run in runs)
    wrong = [
        f"I4: {automation_id} has counted runs and no base"
        for automation_id in {run["automationId"] for run in ours} - bases.keys()
    ]
    for automation_id, base in bases.items():
        total, newest = base["runs"], base.get("lastRunAt") or LONG_AGO
        expected = base["base"] + existing[automation_id]
        last = max((r["createdAt"] or LONG_AGO for r in runs if r["automationId"] == automation_id),
                   default=LONG_AGO)  # fmt: skip
        if total != expected:
            wrong.append(f"I4: total of {automation_id} is {total}, not {expected}")
        if newest < last or (not base["base"] and newest != last):
            wrong.append(f"I4: newest run of {automation_id} is {newest}, not {last}")
        copy = automations.get(automation_id, {"totalRuns": total, "lastRunAt": newest})
        shown = copy.get("totalRuns", 0)
        if find_count(shown) is None:  # kept as it is
            shown = total
        if (shown, copy.get("lastRunAt") or LONG_AGO) != (total, newest):
            wrong.append(f"I4: copy of {automation_id} is {copy.get('totalRuns')} "
                         f"at {copy.get('lastRunAt')}, not {total} at {newest}")  # fmt: skip
    return wrong


def _check_rollups(db: Any, runs: Any) -> list[str]:
    """Compare every minute that is rolled up, where rollups hold all runs, with the runs."""
    minutes = Counter(
        (r["automationId"], hour_of(r["createdAt"]), r["createdAt"].minute)
        for r in runs
        if r["createdAt"]
    )
    rolled: Counter[tuple[str, int, int]] = Counter()
    hours: Counter[tuple[str, int]] = Counter()
    stats = list(db["automation_run_stats"].find())
    for one in stats:
        parts = one.get("h", {})
        if "hour" in one:
            parts = {hour_of(one["hour"]): one}
            hours[one["automationId"], hour_of(one["hour"])] += one["n"]
        for hour, part in parts.items():
            for minute, count in part.get("m", {}).items():
                rolled[one["automationId"], int(hour), int(minute)] += count
            if sum(part.get("m", {}).values()) != part.get("n", 0):
                rolled[one["automationId"], int(hour), -1] += 1
    bases = [one for one in stats if "base" in one and one.get("rollupsSince") is None]
    wrong = []
    for base in bases:
        name = base["automationId"]
        keys = {key for key in minutes.keys() | rolled.keys() if key[0] == name}
        wrong += [f"I8: minute {key} is rolled up as {rolled[key]}, not {minutes[key]}"
                  for key in keys if rolled[key] != minutes[key]]  # fmt: skip
        for day, kept in base["hours"].items():
            if sum(kept.values()) != base["days"][day]:
                wrong.append(f"I8: day {day} of {name} is not the sum of its hours")
            for hour, count in kept.items():
                if count != hours[name, int(hour)]:
                    wrong.append(f"I8: hour {hour} of {name} is {count} in its base")
    return wrong


def _check_windows(db: Any, automations: Any, at: datetime) -> list[str]:
    names = automations.keys() | set(db["automation_run_stats"].distinct("automationId"))
    documents = [automations.get(name, {"_id": list_stored_forms(name)[-1]}) for name in names]
    wrong = []
    for name, summary in StatsStore(db).summarize(documents, at=at).by_automation.items():
        for length, shown in ((24, summary.last_24_hours), (168, summary.last_7_days)):
            since = IS_DATED | {"$gte": at - timedelta(hours=length)}
            found = db["automation_runs"].count_documents(
                {"automationId": {"$in": list_stored_forms(name)}, "createdAt": since}
            )
            if shown != found:
                wrong.append(f"I8: {name} shows {shown} runs in {length} hours, not {found}")
    return wrong

"""Documents as twenty programs may have left them: ids of every type, and worse."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from bson import Binary, DatetimeMS, Decimal128, Int64, ObjectId, Regex
from pymongo.database import Database

from tests.support.api_client import build_automation
from tests.support.triggers import T0, make_run

Db = Database[dict[str, Any]]
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
# Each has a text form of its own.
IDS: list[Any] = [
    ObjectId("65f0c0ffee65f0c0ffee65f0"), "a1", "é ?#%&", "", "a/b", "a\\b", "..", "~x", "a\nb",
    "042", "65F0C0FFEE65F0C0FFEE65F0", 42, Int64(2**62), -7.0, 1.5, float("nan"), 2.0**70,
    Decimal128("43"), Decimal128("0.1"), True, Binary.from_uuid(UUID(int=7)), b"raw",
    Binary(b"x", 5), datetime(2026, 1, 1, tzinfo=UTC), {"tenant": "w1", "n": Int64(1)}, {}, None,
]  # fmt: skip

MISSING: Any = object()
PERSON = 178414000000001
GOOD = [ObjectId("65f0000000000000000000aa"), "good", ObjectId("65f0000000000000000000bb")]
# Each pair has one text form.
TWINS: list[Any] = [ObjectId("65f0000000000000000000cc"), "65f0000000000000000000cc", 77, "77"]
KEPT_TOTALS = ["many", True, [7], {"n": 7}, float("inf"), 2**60, b"7"]
READ_TOTALS = [MISSING, None, 7, Int64(7), 7.0, Decimal128("7"), "7", -1, float("nan")]
# By the line of `verify_run_tracking` that names the run, or "" for one that is as it should be.
AUTOMATION_IDS = [["good"], ["good", 42], {"of": "none"}, False, Regex("g"), T0, MISSING]
PEOPLE = [MISSING, None, True, 1.5, [PERSON], ["p1", "p2"], {"id": PERSON}, T0, b"p1"]
UNDATED = [
    MISSING, None, "2026-01-01", 1, True, [T0], {"at": T0}, T0.replace(year=2090),
    DatetimeMS(300_000_000_000_000),
]  # fmt: skip
PERSON_FORMS = [PERSON, Int64(PERSON), float(PERSON), str(PERSON)]


def fill_with_odd_documents(
    db: Database[dict[str, Any]], *, at: datetime, seed: int
) -> Counter[str]:
    """Return how many documents each line of `verify_run_tracking` has to name."""
    chance = random.Random(seed)
    named: Counter[str] = Counter()
    automations = [build_automation(_id=key) for key in (*GOOD, *TWINS)]
    named["automations of the same id"] = len(TWINS)
    for key in IDS:
        automation = build_automation(_id=key, name=chance.choice(["x", 5, None, [1], {"a": b"b"}]))
        totals = KEPT_TOTALS if chance.random() < 0.5 else READ_TOTALS
        named["totals that are no numbers"] += totals is KEPT_TOTALS
        automation["totalRuns"] = chance.choice(totals)
        automation["lastRunAt"] = chance.choice([MISSING, None, "monday", at - DAY, 1])
        automations.append(automation)
    runs = []
    for number in range(220):
        run = make_run(chance.choice(["good", *IDS]), at - chance.uniform(1, 50) * DAY)
        run |= {"workspaceId": "ws1", "userId": chance.choice([*PERSON_FORMS, f"p{number}"])}
        run["metadata"] = chance.choice(
            [{"messageText": "LINK"}, None, "text", ["LINK"], {"a": {}}]
        )
        run["steps"] = chance.choice([MISSING, None, "sent", {"main_dm": 1}, [{"state": "sent"}]])
        field, values, line = chance.choice([
            ("automationId", AUTOMATION_IDS, "runs without one automation"),
            ("userId", PEOPLE, "runs without a person"),
            ("createdAt", UNDATED, "runs that no window holds"),
            ("createdAt", [at + DAY * 9, at + HOUR], "runs in the future"),
            ("workspaceId", [7, Int64(7), MISSING, ["ws1"], ObjectId()], ""),
            ("_id", [{"run": number}, number + 0.5, b"%d" % number, f"run/{number}"], ""),
        ])  # fmt: skip
        run[field] = chance.choice(values)
        named[line] += 1
        runs.append(run)
    runs += [make_run(str(key), at - DAY, workspaceId="ws1", userId=f"g{n}")
             for key in GOOD for n in range(9)]  # fmt: skip
    for name, documents in (("automations", automations), ("automation_runs", runs)):
        stored = [{field: value for field, value in one.items() if value is not MISSING}
                  for one in documents]  # fmt: skip
        db[name].insert_many(stored)
    return +named

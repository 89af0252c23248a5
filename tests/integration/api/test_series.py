"""The API of counts over time and of outcomes: every figure with what it is of."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.integration.api.test_runs import get
from tests.support.api_client import Db, build_automation, build_path
from tests.support.triggers import (
    count_triggers,
    make_people,
    make_run,
    make_trigger,
    now_in_milliseconds,
)
from tracking.rollups.outcomes import StepOutcome
from tracking.service import record_step_outcomes

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SERIES = "/api/workspaces/ws1/series"


@pytest.fixture
def now(db: Db) -> datetime:
    """Two automations, one of them deleted, with three runs and a duplicate an hour ago."""
    moment = now_in_milliseconds()
    db["automations"].insert_many([
        build_automation(_id="a1", accountId="17841400000000001"),
        build_automation(_id="a2", deletedAt=moment),
    ])  # fmt: skip
    fields = {"workspace_id": "ws1", "arrived_at": moment - HOUR}
    count_triggers(*make_people(2, **fields), *make_people(1, **fields))
    count_triggers(make_trigger(automation_id="a2", **fields))
    return moment


def test_a_series_says_what_it_is_of(db: Db, now: datetime) -> None:
    answer = get(
        build_path("a1", "series"), unit="hour", zone="Asia/Kolkata",
        include="people,automations,outcomes",
        **{"from": (now - 3 * HOUR).isoformat(), "to": (now + DAY).isoformat()},
    ).json()  # fmt: skip
    assert (answer["unit"], answer["zone"]) == ("hour", "Asia/Kolkata")
    assert (answer["isExact"], answer["knownSince"]) == (True, None)
    assert answer["totals"] == {"counted": 2, "duplicates": 1, "newPeople": 2}
    assert answer["people"] == {
        "count": 2, "isExact": True, "from": answer["from"], "to": answer["to"],
    }  # fmt: skip
    assert sum(answer["automations"]["a1"]) == 2
    assert len(answer["buckets"]) == 4
    first = answer["buckets"][0]
    assert set(first) == {"start", "end", "local", "counted", "duplicates", "newPeople"}
    assert first["local"].endswith(":00+05:30")
    start, end, as_of = (datetime.fromisoformat(answer[name]) for name in ("from", "to", "asOf"))
    assert start <= now - 3 * HOUR < start + HOUR
    assert end - HOUR <= as_of < end


def test_a_workspace_counts_deleted_automations_too(db: Db, now: datetime) -> None:
    answer = get(SERIES, include="automations,outcomes").json()
    assert answer["totals"]["counted"] == 3
    assert {name: sum(counts) for name, counts in answer["automations"].items()} == {
        "a1": 2, "a2": 1,
    }  # fmt: skip
    assert answer["buckets"][0]["outcomes"] == {}
    assert len(answer["buckets"]) == 8  # seven days cut eight
    assert get(build_path("a2", "series")).json()["totals"]["counted"] == 1
    assert get(build_path("a3", "series")).status_code == 404


def test_what_was_not_kept_is_null(db: Db) -> None:
    now = datetime.now(UTC)
    db["automations"].insert_one(build_automation(_id="a1"))
    db["automation_runs"].insert_one(make_run("a1", now - HOUR, workspaceId="ws1"))
    since = (now - 200 * DAY).date().isoformat()
    answer = get(build_path("a1", "series"), **{"from": since}).json()
    assert answer["totals"] == {"counted": 1, "duplicates": None, "newPeople": None}
    assert answer["isExact"] is False
    assert datetime.fromisoformat(answer["exactSince"]) < now - 89 * DAY
    assert answer["knownSince"] == answer["asOf"]


def test_outcomes_and_why_not_everything_is_a_run(db: Db, now: datetime) -> None:
    runs = list(db["automation_runs"].find({"automationId": "a1"}))
    record_step_outcomes([
        StepOutcome(run_id=run["_id"], automation_id="a1", step="opening_dm", state=state, at=now,
                    reason=reason)
        for run, state, reason in zip(runs, ("sent", "failed"), (None, "window"), strict=True)
    ])  # fmt: skip
    answer = get(build_path("a1", "outcomes")).json()
    assert answer["funnel"] == {"triggered": 2, "opened": 1, "asked": 0, "completed": 0}
    assert answer["steps"] == {"opening_dm": {"sent": 1, "failed": 1}}
    assert answer["reasons"]["isExact"] is True
    assert {
        "step": "opening_dm", "state": "failed", "reason": "window", "code": None, "subcode": None,
        "runs": 1,
    } in answer["reasons"]["list"]  # fmt: skip
    assert answer["uncounted"] == {"duplicates": 1, "redelivered": 0, "ignored": []}
    assert answer["pending"] == 0
    assert (answer["isExact"], answer["success"]) == (True, True)
    assert get(build_path("a3", "outcomes")).status_code == 404
    assert get(build_path("a1", "outcomes"), **{"from": "2999-01-01"}).status_code == 400

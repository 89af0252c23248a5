"""A person is erased: the counts stay, the id is nowhere, and nothing counts twice for it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import bson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from tests.integration.conftest import MakeFlusher, flush
from tests.support.recount import recount
from tests.support.triggers import MILLISECOND, T0, WINDOW, make_run, make_trigger
from tracking.clock import truncate_to_milliseconds
from tracking.conf import conf
from tracking.counting.flush import Flusher
from tracking.counting.switch import SwitchState, read_switch, write_switch
from tracking.exceptions import TrackingUnavailable
from tracking.maintenance.backfill import Backfill
from tracking.maintenance.erasure import Eraser, Erasure
from tracking.maintenance.people import PersonStore
from tracking.maintenance.replay import Replayer
from tracking.queries.stats import StatsStore
from tracking.runs import Outcome, Trigger, plan_flush

ACCOUNT = "17841400000000001"
PERSON = "5550001112223334"
SECOND = timedelta(seconds=1)
# HYPOTHESIS_PROFILE=thorough looks for longer, as test_state_machine.py does.
HISTORIES = 400 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 25


@pytest.fixture
def eraser(db: Database[Any]) -> Eraser:
    return Eraser(db, window=WINDOW, keys=conf.claim_keys)


@pytest.fixture
def flusher(db: Database[Any], make_flusher: MakeFlusher) -> Flusher:
    return make_flusher(db, claim_keys=conf.claim_keys)


@pytest.fixture(autouse=True)
def _automations(db: Database[Any]) -> None:
    documents = [{"_id": name, "accountId": ACCOUNT, "workspaceId": "w1"} for name in ("a1", "a2")]
    db["automations"].insert_many([*documents, {"_id": "other", "accountId": "999"}])


def wrote(at: datetime, automation: str = "a1", **fields: Any) -> Trigger:
    return make_trigger(user_id=PERSON, arrived_at=at, automation_key=automation, **fields)


def list_holders(db: Database[Any], person: str = PERSON) -> list[str]:
    """The documents that hold the person's id, wherever in them and in raw bytes too."""
    return [
        f"{name}: {document['_id']}"
        for name in db.list_collection_names()
        for document in db[name].find()
        if person.encode() in bson.encode(document)
    ]


def read_counts(db: Database[Any], at: datetime) -> Any:
    documents = list(db["automations"].find().sort("_id", 1))
    people = {one["_id"]: db["automation_contacts"].count_documents({"automationId": one["_id"]})
              for one in documents}  # fmt: skip
    return StatsStore(db).summarize(documents, at=at), people


def test_the_id_is_nowhere_and_every_count_is_what_it_was(
    db: Database[Any], flusher: Flusher, eraser: Eraser
) -> None:
    times = [T0, T0 + WINDOW / 2, T0 + 2 * WINDOW]
    flush(flusher, *(wrote(at, one) for one in ("a1", "a2") for at in times), make_trigger())
    at = T0 + 3 * WINDOW
    before = read_counts(db, at)
    assert recount(db, at=at) == []
    found = PersonStore(db).list_documents(ACCOUNT, PERSON)
    assert [len(documents) for documents in found.values()] == [4, 2, 6]

    assert eraser.erase(ACCOUNT, PERSON, at=at) == Erasure(runs=4, contacts=2, triggers=6)
    assert list_holders(db) == []
    assert recount(db, at=at) == []
    assert read_counts(db, at) == before
    assert not eraser.erase(ACCOUNT, PERSON, at=at)
    # Nobody can tell that one person used both automations, and what was said is gone.
    names = {
        run["userId"] for run in db["automation_runs"].find({"userId": {"$regex": "^erased:"}})
    }
    assert len(names) == 2
    assert [run["metadata"] for run in db["automation_runs"].find({"userId": {"$in": [*names]}})] \
        == [{"postId": "m1"}] * 4  # fmt: skip
    assert db["automation_runs"].count_documents({"userId": "p1"}) == 1


@pytest.mark.parametrize(
    ("after", "outcome"),
    [
        (timedelta(0), Outcome.DUPLICATE),
        (WINDOW, Outcome.DUPLICATE),
        (WINDOW + MILLISECOND, Outcome.COUNTED),
    ],
)
def test_who_writes_again_is_still_inside_the_window(
    db: Database[Any], flusher: Flusher, eraser: Eraser, after: timedelta, outcome: Outcome
) -> None:
    flush(flusher, wrote(T0))
    eraser.erase(ACCOUNT, PERSON, at=T0 + SECOND)
    assert list_holders(db) == []
    [run] = db["automation_runs"].find()

    assert flush(flusher, wrote(T0 + after)) == [outcome]
    assert recount(db, at=T0 + 2 * WINDOW) == []
    again = db["automation_triggers"].find_one({"userId": PERSON})
    assert again is not None
    assert (again["runId"] == run["_id"]) is (outcome is Outcome.DUPLICATE)
    stats = db["automation_run_stats"].find_one({"_id": "a1:s0"})
    people = sum(sum(hour.get("p", {}).values()) for hour in (stats or {})["h"].values())
    assert people == db["automation_contacts"].count_documents({})


def test_several_at_once_around_the_end_of_the_window(
    db: Database[Any], flusher: Flusher, eraser: Eraser
) -> None:
    flush(flusher, wrote(T0))
    eraser.erase(ACCOUNT, PERSON, at=T0 + SECOND)
    times = [T0 + WINDOW, T0 + WINDOW + MILLISECOND, T0 + 2 * WINDOW]
    assert flush(flusher, *map(wrote, times)) == ["duplicate", "counted", "duplicate"]
    assert recount(db, at=T0 + 3 * WINDOW) == []


def test_erased_twice_in_one_window(db: Database[Any], flusher: Flusher, eraser: Eraser) -> None:
    flush(flusher, wrote(T0))
    eraser.erase(ACCOUNT, PERSON, at=T0 + SECOND)
    flush(flusher, wrote(T0 + WINDOW / 2))
    assert eraser.erase(ACCOUNT, PERSON, at=T0 + WINDOW / 2) == Erasure(triggers=1)
    assert list_holders(db) == []
    assert len(db["automation_triggers"].distinct("userId")) == 1
    assert flush(flusher, wrote(T0 + WINDOW)) == [Outcome.DUPLICATE]
    # After the window the hash is gone, and the trigger's run still tells whose it was.
    db["erased_claims"].delete_many({})
    eraser.erase(ACCOUNT, PERSON, at=T0 + 2 * WINDOW)
    assert len(db["automation_triggers"].distinct("userId")) == 1
    assert recount(db, at=T0 + 2 * WINDOW) == []


def test_the_hash_goes_with_the_window_and_needs_the_key(
    db: Database[Any], flusher: Flusher, eraser: Eraser, make_flusher: MakeFlusher
) -> None:
    flush(flusher, wrote(T0), wrote(T0 - 5 * WINDOW, "a2"))
    eraser.erase(ACCOUNT, PERSON, at=T0 + SECOND)
    [claim] = db["erased_claims"].find()
    assert claim["expireAt"] - claim["lastRunAt"] == WINDOW + timedelta(minutes=1)
    rotated = make_flusher(db, claim_keys=(b"new", *conf.claim_keys))
    assert flush(rotated, wrote(T0 + SECOND)) == [Outcome.DUPLICATE]


def test_runs_of_an_earlier_product_without_a_contact(
    db: Database[Any], flusher: Flusher, eraser: Eraser
) -> None:
    now = truncate_to_milliseconds(datetime.now(T0.tzinfo))
    metadata = {"messageText": "hi", "postId": "m1", "username": "mia"}
    earlier = make_run("a1", now - WINDOW / 2, userId=PERSON, username="mia", metadata=metadata)
    db["automation_runs"].insert_one(earlier)
    assert eraser.erase(ACCOUNT, PERSON, at=now) == Erasure(runs=1)
    assert flush(flusher, wrote(now)) == [Outcome.DUPLICATE]
    [run] = db["automation_runs"].find()
    assert run["metadata"] == {"postId": "m1"}
    assert not {"username", "eventId"} & run.keys()
    Backfill(db, now=now, retention=None).run_batch([{"_id": "a1", "totalRuns": 0}], recount=False)
    assert recount(db, at=now + SECOND) == []


def test_the_same_id_at_another_account_is_another_person(
    db: Database[Any], flusher: Flusher, eraser: Eraser
) -> None:
    flush(flusher, wrote(T0), wrote(T0, "other", account_id="999"))
    eraser.erase(ACCOUNT, PERSON, at=T0)
    assert db["automation_runs"].count_documents({"userId": PERSON}) == 1
    assert flush(flusher, wrote(T0, "other", account_id="999")) == [Outcome.DUPLICATE]
    assert eraser.erase(None, PERSON, at=T0) == Erasure(runs=1, contacts=1, triggers=2)
    assert list_holders(db) == []


def test_another_engines_calls_and_a_deleted_automation(
    db: Database[Any], flusher: Flusher, eraser: Eraser
) -> None:
    flush(flusher, wrote(T0, account_id="w1", kind="call"), wrote(T0, "gone"))
    eraser.erase(ACCOUNT, PERSON, at=T0)
    assert list_holders(db) == []
    assert recount(db, at=T0 + SECOND) == []


class TestUntracked:
    """I7 holds for who was erased while triggers waited to be counted."""

    @pytest.fixture
    def replayer(self, db: Database[Any]) -> Iterator[Replayer]:
        write_switch(db, "tracking", SwitchState.OFF, now=T0)
        return Replayer(db, window=WINDOW)  # type: ignore[return-value]

    def test_off_and_on_equals_never_off(
        self, db: Database[Any], flusher: Flusher, eraser: Eraser, replayer: Replayer
    ) -> None:
        flush(flusher, wrote(T0), wrote(T0 + WINDOW / 4))
        assert eraser.erase(ACCOUNT, PERSON, at=T0 + WINDOW / 2).runs == 1
        assert list_holders(db) == []
        flush(flusher, wrote(T0 + WINDOW), wrote(T0 + WINDOW + MILLISECOND))
        # The hash is gone when tracking comes back; what it knew stands in the trigger.
        db["erased_claims"].delete_many({})
        replayer.turn_on(now=T0 + 5 * WINDOW)
        found = db["automation_triggers"].find().sort("createdAt", 1)
        outcomes = [one["outcome"] for one in found]
        assert outcomes == ["counted", "duplicate", "duplicate", "counted"]
        assert recount(db, at=T0 + 6 * WINDOW) == []


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from([0, 1, 29, 30, 31, 59, 60, 61, 119])),
        st.tuples(st.just("erase"), st.sampled_from([0, 1, 30])),
        st.tuples(st.sampled_from(["off", "on"]), st.just(0)),
    ),
    min_size=2, max_size=14,
)  # fmt: skip


@settings(max_examples=HISTORIES, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=steps)
def test_erasing_changes_no_outcome(
    db: Database[Any], eraser: Eraser, steps: list[tuple[str, int]]
) -> None:
    """Whatever is written, erased, and switched off meanwhile: what never erased says the same."""
    for name in db.list_collection_names():
        if name != "automations":
            db[name].delete_many({})
    flusher = Flusher(db, window=WINDOW, claim_keys=conf.claim_keys)
    replayer = Replayer(db, window=WINDOW)
    now = T0
    arrivals: list[datetime] = []
    for number, (what, minutes) in enumerate(steps):
        now += timedelta(minutes=minutes, milliseconds=number % 2)
        db["erased_claims"].delete_many({"expireAt": {"$lt": now}})  # as its TTL does
        if what == "write":
            flush(flusher, wrote(now, event_id=f"{len(arrivals):04}"))
            arrivals.append(now)
        elif what == "erase":
            eraser.erase(ACCOUNT, PERSON, at=now)
            assert list_holders(db) == []
        elif what == "off":
            write_switch(db, "tracking", SwitchState.OFF, now=now)
        elif read_switch(db) is SwitchState.OFF:
            replayer.turn_on(now=now)
    replayer.turn_on(now=now)
    flusher.close()

    expected = plan_flush(
        [wrote(at) for at in arrivals],
        [str(number) for number in range(len(arrivals))],
        known_ids=(), claims={}, window=WINDOW, run_ids=iter(range(99)),
    ).outcomes  # fmt: skip
    found = db["automation_triggers"].find().sort("_id", 1)
    assert [one["outcome"] for one in found] == expected
    assert recount(db, at=now + SECOND) == []
    contacts = db["automation_contacts"].count_documents({})
    live = db["automation_run_stats"].find({"stripe": {"$exists": True}})
    people = [sum(hour.get("p", {}).values()) for one in live for hour in one["h"].values()]
    assert sum(people) == contacts


def test_what_is_read_late_is_inside_the_window_too(
    db: Database[Any], flusher: Flusher, eraser: Eraser
) -> None:
    flush(flusher, wrote(T0))
    eraser.erase(ACCOUNT, PERSON, at=T0 + SECOND)
    times = [T0 - WINDOW, T0 + WINDOW, T0 + 3 * WINDOW]
    assert flush(flusher, *(wrote(at, is_late=True) for at in times)) == ["untracked"] * 3
    db["erased_claims"].delete_many({})
    Replayer(db, window=WINDOW).replay_all(now=T0 + 5 * WINDOW)
    late = list(db["automation_triggers"].find({"userId": PERSON}).sort("createdAt", 1))
    assert [one["outcome"] for one in late] == ["duplicate", "duplicate", "counted"]
    assert recount(db, at=T0 + 6 * WINDOW) == []


def test_under_traffic_one_run_a_window(
    db: Database[Any], eraser: Eraser, make_flusher: MakeFlusher
) -> None:
    """Three writers and a person who is erased again and again: one window, one run."""
    is_over = threading.Event()
    failures: list[object] = []
    flushers = [make_flusher(db, claim_keys=conf.claim_keys) for _ in range(3)]

    def write(one: Flusher) -> None:
        sent = 0
        while not is_over.is_set() and sent < 400:
            sent += 2
            answers = flush(one, wrote(T0 + sent * SECOND), make_trigger(user_id=f"q{sent % 50}"))
            failures.extend(a for a in answers if isinstance(a, TrackingUnavailable))

    threads = [threading.Thread(target=write, args=(one,)) for one in flushers]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 30
    erasures = Erasure()
    while erasures.triggers < 50 and time.monotonic() < deadline:
        erasures.add(eraser.erase(ACCOUNT, PERSON, at=T0 + SECOND))
    is_over.set()
    for thread in threads:
        thread.join()
    erasures.add(eraser.erase(ACCOUNT, PERSON, at=T0 + SECOND))

    assert erasures.triggers >= 50
    assert failures == []
    assert list_holders(db) == []
    assert db["automation_runs"].count_documents({"userId": {"$regex": "^erased:"}}) == 1
    assert recount(db, at=T0 + 3 * WINDOW) == []


def test_without_an_erasure_a_flush_reads_nothing_more(
    db: Database[Any], eraser: Eraser, mongodb_server: str, make_flusher: MakeFlusher
) -> None:
    asked: list[str] = []

    class Listener(CommandListener):
        def started(self, event: CommandStartedEvent) -> None:
            if "erased_claims" in str(event.command):
                asked.append(event.command_name)

        def succeeded(self, event: CommandSucceededEvent) -> None: ...
        def failed(self, event: CommandFailedEvent) -> None: ...

    with MongoClient[Any](mongodb_server, tz_aware=True, event_listeners=[Listener()]) as client:
        flusher = make_flusher(client[db.name], claim_keys=conf.claim_keys)
        flush(flusher, wrote(T0), make_trigger())
        assert asked == []
        eraser.erase(ACCOUNT, PERSON, at=T0)
        flush(flusher, make_trigger(), make_trigger(user_id="p2", arrived_at=T0 + 2 * WINDOW))
        assert asked == []  # one pair is known, the other came after every window
        flush(flusher, make_trigger(user_id="p3"), make_trigger(user_id="p4"))
        assert len(asked) == 1
        flusher.close()

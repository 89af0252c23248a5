"""`run_counter` and `run_worker` as people start them: they share, and end when told to."""

from typing import Any

from pymongo.database import Database

from tests.support.oracle import recount
from tests.support.outbox_fakes import make_comment_document
from tests.support.processes import build_environment, running
from tests.support.triggers import make_trigger, now_in_milliseconds
from tests.support.waiting import wait_until
from tracking import service

Db = Database[dict[str, Any]]


def store(settings: Any, name: str, number: int) -> None:
    """Store triggers of many automations, in a process that leaves the counting to others."""
    settings.TRACKING_ENABLED = False
    at = now_in_milliseconds()
    service.record_triggers([
        make_trigger(automation_id=f"a{n % 40}", user_id=f"{name}{n}", arrived_at=at)
        for n in range(number)
    ])  # fmt: skip


def count_owners(db: Db) -> list[int]:
    owners = [one["owner"] for one in db["tracking_partitions"].find({"owner": {"$ne": None}})]
    dedicated = [one["_id"] for one in db["tracking_partitions"].find({"isDedicated": True})]
    return sorted(owners.count(one) for one in dedicated)


def test_counters_share_count_and_hand_over(db: Db, settings: Any) -> None:
    environment = build_environment(MONGODB_URI=settings.MONGODB_URI)
    with running("run_counter", environment=environment) as first:
        first.wait_for_line("Counting is on")
        store(settings, "p", 400)
        runs = db["automation_runs"]
        wait_until(lambda: runs.count_documents({}) == 400, seconds=15)
        with running("run_counter", environment=environment) as second:
            wait_until(lambda: count_owners(db) == [8, 8], seconds=15)
            assert second.stop() == 0
        # A clean stop hands over at once, without waiting for a lease to run out.
        wait_until(lambda: count_owners(db) == [16], seconds=2.5)
        store(settings, "q", 100)
        wait_until(lambda: runs.count_documents({}) == 500, seconds=15)
        assert first.stop() == 0
    assert count_owners(db) == []
    wait_until(lambda: not db["automation_triggers"].find_one({"outcome": None}), seconds=5)
    assert recount(db) == []


def test_a_worker_sends_what_is_due_and_ends_in_order(db: Db, settings: Any) -> None:
    job = make_comment_document(created_at=now_in_milliseconds())
    db["automation_triggers"].insert_one(job)
    environment = build_environment(MONGODB_URI=settings.MONGODB_URI, INSTAGRAM_SENDING="shadow")

    def is_done() -> bool:
        stored = db["automation_triggers"].find_one({"_id": job["_id"]})
        return stored is not None and stored["state"] == "shadow"

    with running("run_worker", environment=environment) as worker:
        worker.wait_for_line("Sending is shadow: everything except the calls")
        wait_until(is_done, seconds=15)
        assert worker.stop() == 0
    stored = db["automation_triggers"].find_one({"_id": job["_id"]})
    assert stored is not None
    assert stored["progress"].keys() == {"comment_reply", "opening_dm"}

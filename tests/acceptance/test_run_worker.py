"""`run_worker` as people start it: it sends, and ends when told to."""

from typing import Any

from pymongo.database import Database

from tests.support.outbox_fakes import make_comment_document
from tests.support.processes import build_environment, running
from tests.support.triggers import now_in_milliseconds
from tests.support.waiting import wait_until


def test_a_worker_sends_what_is_due_and_ends_in_order(
    db: Database[dict[str, Any]], settings: Any
) -> None:
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

"""A new client, as when the embedded server has moved, is stored and counted with."""

from typing import Any

from pymongo.database import Database

from tests.support.oracle import recount
from tests.support.triggers import make_trigger, now_in_milliseconds
from tests.support.uncounted import count_everything
from tracking import service
from tracking.mongo import client as mongo
from tracking.runs import Outcome


def test_counting_goes_on_with_a_new_client(db: Database[dict[str, Any]]) -> None:
    for user_id in ("p1", "p2", "p1"):
        trigger = make_trigger(user_id=user_id, arrived_at=now_in_milliseconds())
        assert service.record_triggers([trigger]) == [Outcome.STORED]
        mongo.close()
    # Whoever counted with the client before could not say that it leaves.
    count_everything(db)
    assert db["automation_runs"].count_documents({}) == 2
    assert recount(db) == []

"""Whoever dies while it folds must be found by its lease, as whoever dies in a flush."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pymongo.database import Database

from tests.support.triggers import make_trigger, now_in_milliseconds
from tracking import service


def test_the_process_names_the_session_that_it_folds_in(db: Database[dict[str, Any]]) -> None:
    now = now_in_milliseconds()
    service.record_triggers([make_trigger(arrived_at=now - timedelta(hours=3))])
    folder = service._get_committer()._folder
    assert folder is not None
    assert folder.fold_all(now=now) == 1
    [writer] = db["tracking_writers"].find()
    assert writer["chore"] is not None
    assert writer["chore"] != writer["session"]

"""The writes of a flush. Every method runs inside the caller's transaction."""

from collections.abc import Iterator, Sequence
from typing import Any

from bson import ObjectId
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tracking.counting.documents import build_contacts, build_live_updates, build_run, build_trigger
from tracking.mongo.commands import run_insert, run_update
from tracking.runs import FlushPlan, Outcome, Planned


def generate_run_ids() -> Iterator[ObjectId]:
    """Yield fresh run ids."""
    while True:
        yield ObjectId()


class FlushStore:
    """Writes to the collections that a flush touches."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database

    def insert_plan(self, plan: FlushPlan, *, stripe: int, session: ClientSession) -> None:
        """Write everything that a flush decided."""
        if not plan.planned:
            return
        inserts, updates = build_contacts(plan)
        if inserts:
            run_insert(self._database, "automation_contacts", inserts, session)
        if updates:
            run_update(self._database, "automation_contacts", updates, session)
        self.insert_triggers(plan.planned, session)
        self.insert_runs(plan.planned, session)
        self.update_live(plan.planned, stripe=stripe, session=session)

    def insert_triggers(self, planned: Sequence[Planned], session: ClientSession) -> None:
        """Insert the triggers; those that are untracked do not expire."""
        triggers = [build_trigger(item) for item in planned]
        if triggers:
            run_insert(self._database, "automation_triggers", triggers, session)

    def insert_runs(self, planned: Sequence[Planned], session: ClientSession) -> None:
        """Insert the run of every counted trigger."""
        runs = [build_run(item) for item in planned if item.outcome is Outcome.COUNTED]
        if runs:
            run_insert(self._database, "automation_runs", runs, session)

    def update_live(
        self, planned: Sequence[Planned], *, stripe: int, session: ClientSession
    ) -> None:
        """Add counted runs and duplicates to the automations' live documents of a stripe."""
        updates = build_live_updates(planned, stripe=stripe)
        if updates:  # there are none where a flush holds only continuations
            run_update(self._database, "automation_run_stats", updates, session)

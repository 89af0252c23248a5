"""Reads and writes of `demo` and `simulate`; each raises TrackingUnavailable."""

from collections.abc import Mapping, Sequence
from typing import Any

from automations.demo.seed import WORKSPACE_ID
from tracking import service
from tracking.clock import read_now
from tracking.ids import name_id
from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded

Document = dict[str, Any]

_SECONDS = 20.0


def list_other_workspaces() -> list[str]:
    found = list_automations({"workspaceId": {"$ne": WORKSPACE_ID}}, limit=5)
    return sorted({str(document.get("workspaceId")) for document in found})


def list_automations(query: Mapping[str, Any], *, limit: int = 0) -> list[Document]:
    with bounded():
        return list(mongo.get_database()["automations"].find(query, limit=limit))


def insert_workspace(*, automations: Sequence[Document], runs: Sequence[Document]) -> None:
    """Write the runs and then the automations, whose presence says that the seed is complete.

    Runs of an interrupted start are deleted first.
    """
    with bounded(_SECONDS):
        database = mongo.get_database()
        database["automation_runs"].delete_many({"workspaceId": WORKSPACE_ID})
        database["automation_runs"].insert_many(runs, ordered=False)
        database["automations"].insert_many(automations)


def read_totals() -> dict[str, tuple[str, int]]:
    found = list_automations({"isActive": True})
    totals = service.summarize_runs(found, at=read_now(), has_windows=False).by_automation
    named = {name_id(one["_id"]): one.get("name") for one in found}
    return {key: (str(name or key), totals[key].total_runs) for key, name in named.items()}

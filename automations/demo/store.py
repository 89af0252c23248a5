"""Reads and writes of `demo` and `simulate`; each raises TrackingUnavailable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from automations.demo.seed import WORKSPACE_ID
from tracking import service
from tracking.mongo import client as mongo
from tracking.mongo.errors import bounded

Document = dict[str, Any]

_SECONDS = 20.0

# Counters change with every run and say nothing about the targets.
_UNUSED = {"totalRuns": 0, "lastRunAt": 0, "updatedAt": 0}


def list_other_workspaces() -> list[str]:
    """Return some of the other workspaces that have automations here."""
    with bounded(_SECONDS):
        found = mongo.get_database()["automations"].find(
            {"workspaceId": {"$ne": WORKSPACE_ID}}, {"workspaceId": 1}, limit=5
        )
        return sorted({str(document.get("workspaceId")) for document in found})


def list_demo_automations() -> list[Document]:
    with bounded(_SECONDS):
        return list(mongo.get_database()["automations"].find({"workspaceId": WORKSPACE_ID}))


def insert_workspace(*, automations: Sequence[Document], runs: Sequence[Document]) -> None:
    """Write the runs and then the automations, whose presence says that the seed is complete.

    Runs of an interrupted start are deleted first.
    """
    with bounded(_SECONDS):
        database = mongo.get_database()
        database["automation_runs"].delete_many({"workspaceId": WORKSPACE_ID})
        database["automation_runs"].insert_many(runs, ordered=False)
        database["automations"].insert_many(automations)


def list_active_automations() -> list[dict[str, Any]]:
    with bounded():
        return list(mongo.get_database()["automations"].find({"isActive": True}, _UNUSED))


def read_totals() -> dict[str, tuple[str, int]]:
    """Return (name, total runs) of the active automations by id."""
    with bounded():
        found = list(mongo.get_database()["automations"].find({"isActive": True}))
        totals = service.get_totals(found)
    return {
        str(one["_id"]): (str(one.get("name") or one["_id"]), totals[str(one["_id"])][0])
        for one in found
    }

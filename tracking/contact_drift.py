"""Where contacts differ from the runs of their pairs: the comparison alone. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec


class PairRuns(msgspec.Struct, frozen=True, kw_only=True):
    """The runs of one automation and person that exist; `earlier` are an older product's."""

    user_id: str
    workspace_id: Any
    first_at: datetime
    newest_at: datetime
    newest_id: Any
    runs: int
    earlier: int


def build_contact_change(
    pair: PairRuns, contact: Mapping[str, Any] | None, *, oldest: datetime
) -> dict[str, Any]:
    """Return the fields of a contact that should be others, none if it is right.

    Runs before `oldest` may be gone, so that a contact that is older keeps its number of runs.
    """
    if pair.newest_at < oldest:
        return {}
    change: dict[str, Any] = {}
    stored = contact or {}
    if stored.get("lastRunAt") != pair.newest_at:
        change |= {"lastRunAt": pair.newest_at, "lastRunId": pair.newest_id}
    first_at = min(pair.first_at, stored.get("firstRunAt") or pair.first_at)
    is_whole = contact is None or first_at >= oldest
    counts = stored.get("runs"), stored.get("earlier", 0)
    if is_whole and counts != (pair.runs, pair.earlier):
        change |= {"runs": pair.runs, "earlier": pair.earlier}
    if change and stored.get("firstRunAt") != first_at:
        change["firstRunAt"] = first_at
    return change

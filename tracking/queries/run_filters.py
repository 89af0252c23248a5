"""Which runs are asked for, as a query of MongoDB, and where a page of them ended. No I/O."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import bson
import msgspec
from bson.errors import BSONError

from tracking.ids import LENIENT, is_query, list_stored_forms
from tracking.rollups.hours import IS_ARRAY
from tracking.rollups.outcomes import COMPLETED

Document = dict[str, Any]

STEPS = ("comment_reply", "opening_dm", "ask_follow", "main_dm")
# A bound on both sides keeps to values that are dates, whatever an older product stored.
_OLDEST = datetime(1, 1, 2, tzinfo=UTC)
_NEWEST = datetime(9999, 12, 30, tzinfo=UTC)
_LONGEST_CURSOR = 2000


class InvalidCursor(ValueError):
    """It is not a cursor that an answer of ours named."""


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of a workspace, with `from_ <= createdAt < to`; None does not narrow them.

    `state` is what became of `step`, or of any step if that is None; "completed" means that the
    run got everything it was for.
    """

    workspace_id: str
    automation_id: str | None = None
    trigger_type: str | None = None
    step: str | None = None
    state: str | None = None
    user_id: str | None = None
    post_id: str | None = None
    from_: datetime | None = None
    to: datetime | None = None

    def find_indexed(self) -> "RunFilter | None":
        """Return the runs that an index finds, None if they are those that are asked for."""
        by_person = None if self.automation_id is None else self.user_id
        wider = RunFilter(
            workspace_id=self.workspace_id, automation_id=self.automation_id, user_id=by_person,
            from_=self.from_, to=self.to,
        )  # fmt: skip
        return None if wider == self else wider


class Cursor(msgspec.Struct, frozen=True):
    """The last run of a page: the next one goes on below it."""

    created_at: datetime
    run_id: Any


def build_run_query(wanted: RunFilter) -> Document:
    """Return the filter of `automation_runs`; `createdAt` is always in it."""
    query: Document = {
        "workspaceId": {"$in": list_stored_forms(wanted.workspace_id)},
        "createdAt": {
            "$gte": wanted.from_ or _OLDEST, "$lt": wanted.to or _NEWEST, "$not": IS_ARRAY,
        },
    }  # fmt: skip
    ids = {"automationId": wanted.automation_id, "userId": wanted.user_id}
    query |= {name: {"$in": list_stored_forms(one)} for name, one in ids.items() if one is not None}
    exact = {"triggerType": wanted.trigger_type, "metadata.postId": wanted.post_id}
    query |= {name: value for name, value in exact.items() if value is not None}
    if wanted.state == COMPLETED:
        query["completedAt"] = {"$type": "date"}
    elif wanted.state is not None:
        steps = STEPS if wanted.step is None else (wanted.step,)
        query["$or"] = [{f"steps.{step}.state": wanted.state} for step in steps]
    return query


def build_cursor(run: Mapping[str, Any]) -> str:
    """Return the cursor that goes on below a run."""
    raw = bson.encode({"t": run["createdAt"], "i": run["_id"]})
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def parse_cursor(text: str) -> Cursor:
    """Return the cursor in a text. Raises InvalidCursor."""
    if not text.isascii() or len(text) > _LONGEST_CURSOR:
        raise InvalidCursor
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        values: Document = bson.decode(raw, LENIENT)
    except (BSONError, ValueError, OverflowError) as error:
        raise InvalidCursor from error
    created_at, run_id = values.get("t"), values.get("i")
    if not isinstance(created_at, datetime) or "i" not in values or is_query(run_id):
        raise InvalidCursor
    return Cursor(created_at, run_id)

"""The longer updates and queries of jobs (pure)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from automations.outbox.jobs import Change, Job, JobState

Document = dict[str, Any]

DONE_RETENTION = timedelta(days=7)
# $expr uses an index only beside a bound of the field's own type.
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
# Ends a job that cannot be parsed.
END_BROKEN: Document = {
    "$set": {"state": JobState.FAILED.value},
    "$unset": {"nextAt": "", "lease": "", "sendingAt": "", "reportAt": ""},
    "$currentDate": {"doneAt": True},
}


def build_change(job: Job, change: Change) -> Document:
    """Return the update that applies `change` to `job`."""
    set_: Document = {"state": change.state.value, "send.position": change.position}
    unset: Document = {}
    for name, result in change.results.items():
        set_[f"progress.{name}"] = result.to_document()
    if change.forgets:
        unset[f"progress.{job.name_of(job.position)}"] = ""
    if change.attempts is not None:
        set_["attempts"] = change.attempts
    if change.state is not JobState.LEASED:
        unset["lease.until"] = ""
    if change.state is not JobState.UNKNOWN:
        unset["sendingAt"] = ""
    if change.next_at is not None:
        set_["nextAt"] = change.next_at
    if change.read_at is not None:
        set_["readAt"] = change.read_at
    if change.done_at is not None:
        unset["nextAt"] = ""
        if job.read_at is not None:
            unset["readAt"] = ""
        set_["doneAt"] = change.done_at
        # Uncounted triggers too: the TTL index holds none before it is counted.
        set_["expireAt"] = change.done_at + DONE_RETENTION
    if change.report_at is not None:
        set_["reportAt"] = change.report_at
    update: Document = {"$set": set_, "$unset": unset}
    mids = [result.mid for result in change.results.values() if result.mid is not None]
    if mids:
        update["$addToSet"] = {"mids": {"$each": mids}}
    return {name: part for name, part in update.items() if part}


def build_lapsed(moment: Any) -> Document:
    """Return the query for expired leases."""
    return {"lease.until": {"$gt": LONG_AGO}, "$expr": {"$lte": ["$lease.until", moment]}}

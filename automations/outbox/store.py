"""The outbox in MongoDB: jobs in `automation_triggers`, leased and settled.

`nextAt` exists while a job is queued, `lease.until` while a worker holds it, `sendingAt` from the
call of a message until it is settled, `reportAt` until its run has the result. So each of these
indexes holds only open work. A lease is an owner and a fencing token, which grows with every claim.
Every later write filters on both, so that a worker whose lease expired changes nothing.
"""

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from pymongo import UpdateOne
from pymongo.database import Database

from automations.outbox import taps
from automations.outbox.jobs import (
    END_BROKEN,
    LONG_AGO,
    BrokenJob,
    Change,
    Document,
    Job,
    JobState,
    StepState,
    build_change,
    build_lapsed,
    parse_job,
)
from automations.outbox.lanes import QUICK
from automations.outbox.rate_limits import build_now, in_ms
from tracking.mongo.errors import bounded

logger = logging.getLogger("automations.outbox")

# A call takes 8 s at most, and each one renews the lease.
LEASE = timedelta(seconds=60)
_SECONDS = 5.0
_BATCH = 200


class OutboxStore:
    """Reads and writes of jobs. Every method raises TrackingUnavailable.

    `now` is for tests with a clock of their own; None is the server's time.
    """

    def __init__(self, database: Database[Document], *, owner: str) -> None:
        self._jobs = database["automation_triggers"]
        self._quick = self._jobs.with_options(write_concern=QUICK)
        self.owner = owner

    def list_due_accounts(self, via: str, *, now: datetime) -> list[str]:
        """Return the accounts that have jobs due, by one index key each."""
        with bounded(_SECONDS):
            found: list[str] = self._jobs.distinct(
                "accountId", {"send.via": via, "nextAt": {"$lte": now}}
            )
        return found

    def claim(
        self, account_id: str, via: str, *, limit: int, now: datetime | None, at: datetime
    ) -> tuple[list[Job], bool]:
        """Lease up to `limit` of the jobs that are due at `at`, the longest due first.

        Returns whether nothing else was due, too.
        """
        query = {"send.via": via, "accountId": account_id, "nextAt": {"$lte": at}}
        with bounded(_SECONDS):
            found = list(self._jobs.find(query, limit=limit, sort={"nextAt": 1}))
            if not found:
                return [], True
            taps.add_steps(self._quick, account_id, found)
            ids = [document["_id"] for document in found]
            leased = self._quick.update_many(
                {"_id": {"$in": ids}, "accountId": account_id, "state": JobState.QUEUED.value},
                [{"$set": {
                    "state": JobState.LEASED.value,
                    "lease": {
                        "owner": self.owner,
                        "token": {"$add": [{"$ifNull": ["$lease.token", 0]}, 1]},
                        "until": {"$add": [build_now(now), in_ms(LEASE)]},
                    },
                }}, {"$unset": "nextAt"}],
            )  # fmt: skip
            jobs = self._parse(found)
            for job in jobs:
                job.token += 1
            if leased.modified_count < len(jobs):  # another worker was faster with some
                held = {
                    "_id": {"$in": ids},
                    "accountId": account_id,
                    "state": JobState.LEASED.value,
                    "lease.owner": self.owner,
                }
                tokens = {
                    d["_id"]: d["lease"]["token"] for d in self._jobs.find(held, {"lease": 1})
                }
                jobs = [job for job in jobs if tokens.get(job.id) == job.token]
        return jobs, len(found) < limit

    def claim_step(self, job: Job, *, at: datetime) -> bool:
        with bounded(_SECONDS):
            return taps.claim_step(self._quick, job, at=at)

    def begin_sending(self, job: Job, *, now: datetime | None) -> bool:
        """Record that the call of the job's next step starts, and renew the lease.

        Returns False if the lease is lost or the job has changed; then the call must not be made.
        """
        moment = build_now(now)
        step = f"progress.{job.name_of(job.position)}"
        query = {
            **self._held_job(job, JobState.LEASED),
            "$expr": {"$gt": ["$lease.until", moment]},
        }
        change = {
            "state": JobState.SENDING.value,
            "sendingAt": moment,
            "lease.until": {"$add": [moment, in_ms(LEASE)]},
            f"{step}.state": StepState.SENDING.value,
            f"{step}.at": moment,
        }
        return self._update(query, [{"$set": change}])

    def settle(
        self, job: Job, change: Change, *, expected: Sequence[JobState], without_echo: bool = False
    ) -> bool:
        """Apply `change` to a job that we hold and that is in an `expected` state.

        Returns False if another worker changed it, or, with `without_echo`, if an echo arrived.
        """
        query = self._held_job(job, *expected)
        if without_echo:
            query[f"progress.{job.name_of(job.position)}.echo"] = {"$exists": False}
        return self._update(query, build_change(job, change))

    def find_echo(self, job: Job) -> str | None:
        """Return the id of the message that came back as an echo while it was being sent."""
        name = job.name_of(job.position)
        with bounded(_SECONDS):
            document = self._jobs.find_one(_one_of(job), {f"progress.{name}.echo": 1}) or {}
        echo: str | None = document.get("progress", {}).get(name, {}).get("echo")
        return echo

    def requeue_abandoned(self, *, now: datetime | None) -> int:
        """Put back what was leased, and not being sent, by workers that are gone; count it."""
        moment = build_now(now)
        query = {**build_lapsed(moment), "state": JobState.LEASED.value}
        with bounded(_SECONDS):
            found = list(self._jobs.find(query, {"accountId": 1}, limit=_BATCH * 10))
            if not found:
                return 0
            lapsed = {
                "_id": {"$in": [one["_id"] for one in found]},
                "accountId": {"$in": list({one["accountId"] for one in found})},
            }
            done = self._jobs.update_many(
                {**lapsed, **query},
                [
                    {"$set": {"state": JobState.QUEUED.value, "nextAt": moment}},
                    {"$unset": "lease.until"},
                ],
            )
        return done.modified_count

    def list_cut_off(self, *, now: datetime | None) -> list[Job]:
        query = {**build_lapsed(build_now(now)), "state": JobState.SENDING.value}
        with bounded(_SECONDS):
            return self._parse(self._jobs.find(query, limit=_BATCH))

    def settle_cut_off(self, job: Job, change: Change) -> bool:
        """Move on a job from `list_cut_off` or `find_unsettled`, unless somebody was faster."""
        query = {
            **_one_of(job), "lease.token": job.token, "sendingAt": job.sending_at,
            "send.position": job.position,
            "state": {"$in": [JobState.SENDING.value, JobState.UNKNOWN.value]},
        }  # fmt: skip
        return self._update(query, build_change(job, change))

    def list_overdue(self, account_id: str, via: str, *, at: datetime) -> list[Job]:
        """Return queued jobs whose window has ended; the index alone answers it."""
        query = {"send.via": via, "accountId": account_id, "nextAt": {"$gt": LONG_AGO},
                 "send.windowEndsAt": {"$lte": at}}  # fmt: skip
        with bounded(_SECONDS):
            found = list(self._jobs.find(query, limit=_BATCH))
            taps.add_steps(self._quick, account_id, found)
            return self._parse(found)

    def expire_queued(self, job: Job, change: Change) -> bool:
        query = {**_one_of(job), "state": JobState.QUEUED.value}
        return self._update(query, build_change(job, change))

    def find_unsettled(self, account_id: str, user_id: str) -> list[Job]:
        query = {"accountId": account_id, "userId": user_id, "sendingAt": {"$gt": LONG_AGO}}
        with bounded(_SECONDS):
            return self._parse(self._jobs.find(query))

    def has_message(self, mid: str) -> bool:
        with bounded(_SECONDS):
            return self._jobs.find_one({"mids": mid}, {"_id": 1}) is not None

    def note_echo(self, job: Job, mid: str) -> bool:
        """Keep the echo of a message whose call has not come back yet."""
        field = f"progress.{job.name_of(job.position)}.echo"
        query = {
            **_one_of(job), "lease.token": job.token, "sendingAt": job.sending_at,
            "state": JobState.SENDING.value, field: {"$exists": False},
        }  # fmt: skip
        return self._update(query, {"$set": {field: mid}})

    def list_unreported(self, *, before: datetime) -> list[Job]:
        with bounded(_SECONDS):
            return self._parse(self._jobs.find({"reportAt": {"$lte": before}}, limit=_BATCH))

    def find_outcomes(self, jobs: Iterable[Job]) -> None:
        """Look up what became of the triggers of jobs that were not counted when they were read."""
        waiting = {job.id: job for job in jobs if job.outcome is None}
        if not waiting:
            return
        accounts = list({job.account_id for job in waiting.values()})
        query = {
            "_id": {"$in": list(waiting)}, "accountId": {"$in": accounts},
            "outcome": {"$exists": True},
        }  # fmt: skip
        with bounded(_SECONDS):
            for found in self._jobs.find(query, {"outcome": 1, "runId": 1}):
                job = waiting[found["_id"]]
                # In this order: whoever sees the outcome may use the run.
                job.run_id = found.get("runId")
                job.outcome = found["outcome"]

    def move_reports(self, reports: Sequence[tuple[Job, datetime, datetime | None]]) -> None:
        """Put reports off, (job, up to when, until when), or end them; newer ones stay."""
        writes = []
        for job, at, until in reports:
            change = (
                {"$unset": {"reportAt": ""}} if until is None else {"$set": {"reportAt": until}}
            )
            writes.append(UpdateOne({**_one_of(job), "reportAt": at}, change))
        if writes:
            with bounded(_SECONDS):
                self._quick.bulk_write(writes, ordered=False)

    def _update(self, query: Document, update: Document | list[Document]) -> bool:
        with bounded(_SECONDS):
            return self._jobs.update_one(query, update).modified_count == 1

    def _parse(self, documents: Iterable[Document]) -> list[Job]:
        """Return the jobs; one that is broken ends here, so that it never stops the others."""
        jobs = []
        for document in documents:
            try:
                jobs.append(parse_job(document))
            except BrokenJob as error:
                logger.error("❌ A job cannot be sent (%s): %s", error, document["_id"])
                query = {"_id": document["_id"], "accountId": document["accountId"]}
                self._jobs.update_one(query, END_BROKEN)
        return jobs

    def _held_job(self, job: Job, *states: JobState) -> Document:
        return {
            **_one_of(job), "lease.owner": self.owner, "lease.token": job.token,
            "state": {"$in": [state.value for state in states]}, "send.position": job.position,
        }  # fmt: skip


def _one_of(job: Job) -> Document:
    # The account is what the collection is sharded by.
    return {"_id": job.id, "accountId": job.account_id}

"""The worker, put together from the settings, the accounts and the Graph API."""

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from automations.accounts import accounts
from automations.conf import conf
from automations.instagram.buttons import build_payload
from automations.instagram.graph import GraphClient
from automations.instagram.messages import build_message, choose_public_reply
from automations.outbox import transitions
from automations.outbox.jobs import Job
from automations.outbox.lanes import LaneStore
from automations.outbox.reporting import Reporter, StepReport
from automations.outbox.store import OutboxStore
from automations.outbox.worker import Worker
from automations.rules.steps import COMMENT_REPLY
from tracking import service
from tracking.clock import read_now
from tracking.mongo import client as mongo
from tracking.rollups.outcomes import StepOutcome


def build_worker(graph: GraphClient | None = None) -> Worker:
    """Return a worker on this process's database.

    Raises MongoNotConfigured and TrackingUnavailable as `mongo.get_database` does.
    """
    database = mongo.get_database()
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:12]}"
    store = OutboxStore(database, owner=owner)
    return Worker(
        store=store,
        lanes=LaneStore(database),
        reporter=Reporter(store, record_results),
        graph=graph or GraphClient(conf.graph_url),
        compose=compose,
        # The account stays paused until it is active again.
        pause=lambda one, state, reason: accounts.set_state(one, state, reason, at=read_now()),
        get_account=accounts.get_account,
        setting=conf.sending,
    )


def compose(job: Job, step: Mapping[str, Any]) -> Any:
    """Return a step's message, or its text for a public reply.

    What waits for a tap has a button whose payload names the job's trigger and, once that is
    counted, its run. Raises ValueError for content that cannot be sent.
    """
    if step["name"] == COMMENT_REPLY:
        return choose_public_reply(step, trigger_id=job.id)
    if not transitions.waits_for_tap(job, step):
        return build_message(step)
    run_id = None if job.outcome is None or job.run_id is None else str(job.run_id)
    payload = build_payload(job.id, run_id, job.automation_id, step["name"])
    return build_message(step, payload=payload)


def record_results(told: Sequence[StepReport]) -> None:
    """Tell the runs of counted triggers what became of their steps. Raises TrackingUnavailable."""
    service.record_step_outcomes([
        StepOutcome(
            run_id=one.job.run_id,
            automation_id=one.job.automation_id,
            step=one.step,
            state=one.result.state.value,
            at=one.result.at,
            code=one.result.code,
            subcode=one.result.subcode,
            reason=one.result.reason,
            is_completed=transitions.is_completed(one.step, one.result.state),
        )
        for one in told
    ])  # fmt: skip

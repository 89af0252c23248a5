"""A workspace as people have one: a week of runs, what became of them, and a queue that waits."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from django.core.management import call_command
from pymongo.database import Database

from automations.demo import seed
from tests.support.uncounted import count_everything
from tracking import service
from tracking.rollups.outcomes import StepOutcome
from tracking.runs import Trigger

Document = dict[str, Any]

_PAUSED_ACCOUNT = "17841460000067890"
_WAITING = 412
_TAPS = 0.72
_TODAY = 90  # triggers of the last minutes, some of them by people who just wrote
_WORDS = ("Link please 😍", "where can I buy this?", "LINK", "the lookbook, please!", "link 🙏")
_IGNORED = {"own_comment": 31, "echo": 244, "reaction": 18, "test": 2}
_REDELIVERED = 9


def fill(db: Database[Document]) -> None:
    """Insert the workspace of `demo` with outcomes, two accounts and a queue."""
    now = datetime.now(UTC).replace(microsecond=0)
    automations = seed.build_automations(now=now)
    automations[1]["isActive"] = False
    db["automations"].insert_many(automations)
    runs = seed.build_history(now=now - timedelta(minutes=2))
    db["automation_runs"].insert_many(runs)
    call_command("add_run_fields", verbosity=0)
    service.record_step_outcomes(list(_build_outcomes(runs, now)), seconds=60)
    service.record_triggers(list(_build_triggers(automations[0], now)), seconds=60)
    count_everything(db)
    today = db["automation_runs"].find({"eventId": {"$exists": True}})
    service.record_step_outcomes(list(_build_outcomes(list(today), now)), seconds=60)
    service.note_ignored(
        [{seed.ACCOUNT_ID: _IGNORED}], redelivered={seed.ACCOUNT_ID: _REDELIVERED}, at=now
    )
    service.close()  # which writes what is noted
    paused = {"state": "token_dead", "stateReason": "Error 190 of Instagram"}
    accounts = [
        _build_account(seed.ACCOUNT_ID, lastWebhookAt=now),
        _build_account(_PAUSED_ACCOUNT, **paused),
    ]
    db["accounts"].insert_many(accounts)
    db["automation_triggers"].insert_many(_build_queue(now))


def _build_account(account_id: str, **fields: Any) -> Document:
    return {
        "_id": account_id, "workspaceId": seed.WORKSPACE_ID, "host": "graph.instagram.com",
        "state": "active", "token": "not-a-token", **fields,
    }  # fmt: skip


def _build_outcomes(runs: list[Document], now: datetime) -> Iterator[StepOutcome]:
    rng = Random(7)
    for run in runs:
        at = run["createdAt"]
        first = run["triggerType"]
        steps = {
            "comment_reply": ("comment_reply", "opening_dm", "ask_follow", "main_dm"),
            "opening_dm": ("opening_dm", "main_dm"),
            "main_dm": ("main_dm",),
        }[first]
        for number, step in enumerate(steps):
            at += timedelta(seconds=rng.randint(1, 4) if number < 2 else rng.randint(20, 900))
            if at > now:
                break
            last = step == "main_dm"
            if step == "ask_follow" and rng.random() < 0.6:
                yield _build_outcome(run, step, "skipped", at, reason="follows")
                continue
            if rng.random() < 0.02:
                error = {"reason": "permanent", "code": 551, "subcode": None}
                yield _build_outcome(run, step, "failed", at, **error)
                break
            yield _build_outcome(run, step, "sent", at, is_completed=last)
            if step in ("opening_dm", "ask_follow") and rng.random() > _TAPS:
                break  # nobody tapped


def _build_outcome(run: Document, step: str, state: str, at: datetime, **more: Any) -> StepOutcome:
    return StepOutcome(
        run_id=run["_id"], automation_id=run["automationId"], step=step, state=state, at=at,
        run_created_at=run["createdAt"], **more,
    )  # fmt: skip


def _build_triggers(automation: Document, now: datetime) -> Iterator[Trigger]:
    for number in range(_TODAY):
        at = now - timedelta(minutes=3) * (_TODAY - number)
        # Every fourth comes from who wrote just before.
        person = number - 1 if number % 4 == 0 else number
        yield Trigger(
            account_id=seed.ACCOUNT_ID, kind="comment", event_id=f"1791000000000{number:04}",
            automation_key=automation["_id"], automation_id=str(automation["_id"]),
            workspace_id=seed.WORKSPACE_ID, trigger_type="comment_reply",
            user_id=f"1199000{person * 7_919_337:09}", arrived_at=at,
            occurred_at=at - timedelta(seconds=1),
            metadata={"messageText": _WORDS[number % len(_WORDS)], "postId": "17900000000000003"},
        )  # fmt: skip


def _build_queue(now: datetime) -> Iterator[Document]:
    shared = {
        "accountId": seed.ACCOUNT_ID, "workspaceId": seed.WORKSPACE_ID, "outcome": "duplicate",
        "automationId": "6650c0de0000000000000001", "createdAt": now, "state": "queued",
        "nextAt": now, "send": {"via": "private_reply", "windowEndsAt": now + timedelta(days=7)},
    }  # fmt: skip
    for number in range(_WAITING):
        key = f"{seed.ACCOUNT_ID}:comment:queued-{number}"
        yield {"_id": key, "userId": f"9000{number}", **shared}

"""How much waits, until when, and what the API tells about accounts."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from automations.accounts.accounts import (
    AccountState,
    add_account,
    finish_notes,
    note_webhooks,
    set_state,
)
from automations.accounts.encryption import make_key
from automations.outbox.account_status import Queue, summarize_queues
from automations.outbox.jobs import PRIVATE_REPLY
from tests.support.api_client import build_automation, make_client
from tests.support.outbox_fakes import MAIN, Rig, make_comment_document, make_job_document
from tests.support.triggers import T0

PACE = timedelta(milliseconds=5218)
PATH = "/api/workspaces/ws1/accounts"
TOKEN = "IGAA-not-to-be-shown"


def summarize() -> Queue:
    return summarize_queues(["acc1"], now=T0)["acc1"]


class TestQueues:
    def test_an_empty_queue_has_no_end(self, rig: Rig) -> None:
        assert summarize() == Queue(account_id="acc1")
        assert summarize_queues([]) == {}

    def test_the_end_of_a_viral_post_is_when_the_last_one_goes_out(self, rig: Rig) -> None:
        rig.add(*(make_comment_document(MAIN) for _ in range(100)))
        end, at = T0 + 60 * PACE, T0
        for queued in (100, 60):
            queue = Queue(account_id="acc1", queued=queued, oldest_at=T0, finishes_at=end)
            assert summarize() == queue
            rig.worker.drain(now=T0)
        while at < end - PACE:
            rig.worker.drain(now=at)
            at += PACE / 2
        assert len(rig.graph.journal) < 100
        rig.worker.drain(now=end)
        assert len(rig.graph.journal) == 100

    def test_what_backs_off_or_is_tried_again_later_ends_later(self, rig: Rig) -> None:
        rig.add(make_job_document(send={"via": PRIVATE_REPLY}))
        until = rig.lanes.back_off("acc1", now=T0)
        assert summarize().finishes_at == until
        later = T0 + timedelta(minutes=9)
        rig.add(make_job_document(nextAt=later))
        queue = summarize()
        assert (queue.queued, queue.oldest_at, queue.finishes_at) == (2, T0, later)

    def test_accounts_and_lanes_are_told_apart(self, rig: Rig) -> None:
        rig.add(
            *(make_comment_document(MAIN) for _ in range(50)),
            make_job_document(created_at=T0 - timedelta(seconds=1)),
            make_job_document(account_id="acc2"),
        )
        queues = summarize_queues(["acc1", "acc2", "acc3"], now=T0)
        assert [queues[one].queued for one in ("acc1", "acc2", "acc3")] == [51, 1, 0]
        assert queues["acc1"].oldest_at == T0 - timedelta(seconds=1)
        assert queues["acc1"].finishes_at == T0 + 10 * PACE

    def test_reading_it_reads_no_document(self, rig: Rig) -> None:
        rig.add(*(make_comment_document(MAIN) for _ in range(20)))
        database = rig.db.client.get_database(rig.db.name)
        database.command("profile", 2)
        try:
            summarize()
        finally:
            database.command("profile", 0)
        wanted = {"op": "command", "command.aggregate": "automation_triggers"}
        [seen] = database["system.profile"].find(wanted)
        database["system.profile"].drop()
        assert (seen["keysExamined"] <= 22, seen["docsExamined"]) == (True, 0)


class TestAccountsOfTheApi:
    @pytest.fixture(autouse=True)
    def _key(self, settings: Any) -> None:
        settings.FIELD_ENCRYPTION_KEYS = (make_key(),)

    def test_an_account_has_its_exact_shape(self, rig: Rig) -> None:
        at = datetime(2026, 11, 23, 12, tzinfo=UTC)
        rig.db["automations"].insert_one(build_automation(accountId="178"))
        add_account("178", workspace_id="ws1", token=TOKEN, at=at)
        note_webhooks(["178"], at=at)
        finish_notes()
        rig.add(make_job_document(account_id="178"))
        response = make_client().get(PATH)
        assert response.status_code == 200
        assert TOKEN not in response.content.decode()
        [account] = response.json()["accounts"]
        assert account.pop("finishesAt") > "2026"
        assert account == {
            "accountId": "178",
            "state": "active",
            "stateReason": None,
            "stateAt": "2026-11-23T12:00:00.000Z",
            "sending": "on",
            "lastWebhookAt": "2026-11-23T12:00:00.000Z",
            "queued": 1,
            "oldestAt": "2026-11-23T10:20:30.400Z",
        }

    def test_each_account_says_whether_it_works(self, rig: Rig) -> None:
        at = datetime.now(UTC)
        for account_id in ("1", "2", "3", "4"):
            rig.db["automations"].insert_one(build_automation(accountId=account_id))
        rig.db["automations"].insert_one(build_automation(accountId="9", workspaceId="ws2"))
        for account_id, owner in (("1", "ws1"), ("2", "ws1"), ("4", "ws2"), ("5", "ws1")):
            add_account(account_id, workspace_id=owner, token=TOKEN, at=at)
        set_state("2", AccountState.TOKEN_DEAD, "error 190", at=at)
        found = make_client().get(PATH).json()["accounts"]
        assert [(one["accountId"], one["state"], one["sending"]) for one in found] == [
            ("1", "active", "on"),
            ("2", "token_dead", "off"),
            ("3", "no_token", "shadow"),
            ("4", "other_workspace", None),
            ("5", "active", "on"),
        ]
        assert found[1]["stateReason"] == "error 190"
        assert found[3]["queued"] is None

    def test_sending_that_is_off_says_so(self, rig: Rig, settings: Any) -> None:
        settings.INSTAGRAM_SENDING = "off"
        add_account("1", workspace_id="ws1", token=TOKEN, at=datetime.now(UTC))
        [account] = make_client().get(PATH).json()["accounts"]
        assert account["sending"] == "off"

"""Erasing across the product: what waits to be sent, dead letters, Meta's callback, commands."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from pymongo.database import Database

from automations.privacy import deletion_requests, erasure
from automations.privacy.erasure import erase_person
from tests.integration.maintenance.test_erasure import list_holders
from tests.support.commands import run_command
from tests.support.oracle import recount
from tests.support.outbox_fakes import ASK, MAIN, PLAIN_OPENING, Rig, make_job_document
from tests.support.uncounted import count_everything
from tests.support.webhook_cases import (
    ACCOUNTS,
    build_automation,
    build_body,
    build_comment,
    post_body,
)
from tests.unit.instagram.test_signed_request import build_signed_request
from tracking.exceptions import TrackingUnavailable

ACCOUNT = ACCOUNTS[0]
PERSON = "5550001112223334"
WROTE = {"from": {"id": PERSON, "username": "mia.example"}, "text": "where do I live"}
NOW = datetime.now(UTC).replace(microsecond=0)
CALLBACK = "/api/webhooks/instagram/data-deletion"


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "_GRACE_SECONDS", 0.0)


def post_comments(db: Database[Any]) -> None:
    """The person comments twice, somebody else once; one comment cannot be read."""
    db["automations"].insert_one(build_automation("a1"))
    broken = {**build_comment(4), "media": "none", "from": {"id": PERSON}}
    body = build_body(
        build_comment(1, **WROTE), build_comment(2, **WROTE), build_comment(3), broken
    )
    assert post_body(body).status_code == 200
    assert db["webhook_dead_letters"].count_documents({}) == 1
    count_everything(db)


def test_nothing_of_the_person_is_left(db: Database[Any]) -> None:
    post_comments(db)
    at = datetime.now(UTC)
    found = erase_person(ACCOUNT, PERSON, at=at)
    assert found.documents == Counter(runs=1, contacts=1, triggers=2)
    assert found.dead_letters == 1
    assert list_holders(db) == []
    assert list_holders(db, "mia.example") == []
    assert list_holders(db, "where do I live") == []
    assert recount(db) == []
    assert db["automations"].count_documents({"_id": "a1", "totalRuns": 2}) == 1


def test_the_commands(db: Database[Any]) -> None:
    post_comments(db)
    exported = json.loads("".join(run_command("export_person", ACCOUNT, PERSON)))
    assert exported["person"] == PERSON
    [run] = exported["automation_runs"]
    assert run["metadata"]["messageText"] == "where do I live"
    assert len(exported["automation_contacts"]) == 1
    assert len(exported["automation_triggers"]) == 2
    [letter] = exported["webhook_dead_letters"]
    assert letter["holds"][0]["value"]["from"] == {"id": PERSON}
    assert build_comment(3)["from"]["id"] not in json.dumps(exported)

    figures = [
        "runs made anonymous: 1", "contacts made anonymous: 1", "triggers made anonymous: 2",
        "dead letters cleared: 1",
    ]  # fmt: skip
    preview = run_command("erase_person", ACCOUNT, PERSON, "--dry-run")
    assert preview == ["dry run, nothing was changed", *figures]
    assert list_holders(db) != []
    assert run_command("erase_person", ACCOUNT, PERSON) == figures
    assert list_holders(db) == []
    exported = json.loads("".join(run_command("export_person", "all", PERSON)))
    assert exported["automation_runs"] == []


class TestSending:
    @pytest.fixture
    def rig(self, db: Database[Any]) -> Rig:
        return Rig(db)

    def add(self, rig: Rig, *steps: Any) -> str:
        send = {"steps": list(steps or [PLAIN_OPENING, MAIN])}
        return rig.add(
            make_job_document(userId=PERSON, account_id=ACCOUNT, created_at=NOW, send=send)
        )

    def test_what_waits_is_dropped_and_the_run_is_told(self, rig: Rig) -> None:
        job_id = self.add(rig)
        erase_person(ACCOUNT, PERSON, at=NOW)
        assert rig.find(job_id)["state"] == "skipped"
        rig.worker.drain(now=NOW + timedelta(minutes=2))
        assert rig.graph.journal == []
        assert sorted(rig.outcomes()) == [("main_dm", "skipped"), ("opening_dm", "skipped")]
        assert {one.reason for one in rig.told} == {"erased"}

    def test_the_call_that_is_under_way_is_the_last(self, rig: Rig, db: Database[Any]) -> None:
        job_id = self.add(rig)
        rig.graph.before_call = lambda: erase_person(ACCOUNT, PERSON, at=NOW) and None
        rig.worker.drain(now=NOW)
        rig.worker.drain(now=NOW + timedelta(minutes=30))
        assert rig.graph.sent == [("dm", "opening_dm")]
        job = rig.find(job_id)
        assert job["state"] == "skipped"
        assert {step: one["state"] for step, one in job["progress"].items()} == {
            "opening_dm": "unknown", "main_dm": "skipped",
        }  # fmt: skip
        assert list_holders(db) == []

    def test_a_job_in_a_workers_hands_is_not_sent(self, rig: Rig, db: Database[Any]) -> None:
        job_id = self.add(rig)
        rig.lanes.open_lanes("dm", [ACCOUNT], now=NOW)
        [sender] = rig.worker._take_turn(1) or []
        erase_person(ACCOUNT, PERSON, at=NOW)
        sender.run()
        assert rig.graph.journal == []
        assert rig.find(job_id)["state"] == "skipped"

    def test_what_was_sent_stays_sent(self, rig: Rig, db: Database[Any]) -> None:
        job_id = self.add(rig, ASK)
        rig.graph.follows = False
        rig.worker.drain(now=NOW)
        assert rig.find(job_id)["state"] == "waiting"
        erase_person(ACCOUNT, PERSON, at=NOW)
        job = rig.find(job_id)
        assert (job["state"], job["progress"]["ask_follow"]["state"]) == ("waiting", "sent")
        assert "mids" not in job
        assert list_holders(db) == []


class TestCallback:
    def test_from_the_request_to_the_word_that_it_is_done(
        self, db: Database[Any], client: Client
    ) -> None:
        post_comments(db)
        db["accounts"].insert_one({"_id": PERSON, "token": "encrypted", "workspaceId": "w"})
        signed = build_signed_request({"user_id": PERSON, "algorithm": "HMAC-SHA256"})
        response = client.post(CALLBACK, {"signed_request": signed}, secure=True)
        answer = response.json()
        assert answer.keys() == {"url", "confirmation_code"}
        assert answer["confirmation_code"].isalnum()
        assert answer["url"] == f"https://testserver{CALLBACK}/{answer['confirmation_code']}"
        assert client.get(f"{CALLBACK}/nothing").status_code == 404
        path = answer["url"].removeprefix("https://testserver")
        assert "being carried out" in client.get(path).content.decode()

        assert deletion_requests.erase_waiting() == 1
        assert deletion_requests.erase_waiting() == 0
        assert list_holders(db) == []
        assert db["accounts"].count_documents({}) == 0
        page = client.get(path)
        assert "were erased" in page.content.decode()
        assert page["Content-Type"] == "text/plain; charset=utf-8"
        assert recount(db) == []

    def test_a_request_that_fails_waits_and_stops_no_other(
        self, db: Database[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(deletion_requests, "_MOST_AT_ONCE", 2)
        codes = [deletion_requests.request_deletion(one) for one in ("bad", "worse", "a", "b")]

        def erase(account: None, person: str, *, at: datetime) -> None:
            if person in ("bad", "worse"):
                raise (TrackingUnavailable if person == "bad" else RuntimeError)(person)

        monkeypatch.setattr(deletion_requests, "erase_person", erase)
        assert [deletion_requests.erase_waiting() for _ in range(3)] == [0, 2, 0]
        assert "being carried out" in (deletion_requests.describe_request(codes[0]) or "")
        monkeypatch.undo()
        monkeypatch.setattr(erasure, "_GRACE_SECONDS", 0.0)
        monkeypatch.setattr(deletion_requests, "_RETRY_AFTER", timedelta(0))
        assert deletion_requests.erase_waiting() == 2
        assert db["deletion_requests"].count_documents({"state": "done"}) == 4

    @pytest.mark.parametrize(
        ("signed", "status"),
        [("", 403), ("a.b", 403), (build_signed_request(secret="x"), 403),
         (build_signed_request({}), 400)],
    )  # fmt: skip
    def test_what_is_not_metas_is_refused(
        self, db: Database[Any], client: Client, signed: str, status: int
    ) -> None:
        assert client.post(CALLBACK, {"signed_request": signed}).status_code == status
        assert db["deletion_requests"].count_documents({}) == 0

    def test_without_a_database_meta_is_told_to_come_again(self, client: Client) -> None:
        response = client.post(CALLBACK, {"signed_request": build_signed_request()})
        assert response.status_code == 503

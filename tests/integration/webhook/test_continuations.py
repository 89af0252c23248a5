"""Taps, from Meta's POST to the run that they carry on: they are never a run themselves."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from bson import ObjectId
from pymongo.database import Database

from automations.instagram.buttons import build_payload
from automations.outbox.worker import Worker
from automations.webhook.deliveries import DeliverySummary, handle_delivery
from tests.support.oracle import recount
from tests.support.outbox_fakes import FakeGraph
from tests.support.uncounted import count_everything
from tests.support.webhook_cases import ACCOUNTS, build_automation, build_body, build_comment
from tracking import service
from tracking.counting.switch import SwitchState, write_switch
from tracking.reports import summarize_outcomes
from tracking.rollups.outcomes import StepOutcome

T0 = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)
ACCOUNT = ACCOUNTS[0]
DAY = timedelta(days=1)
PERSON = "8800000000000001"
TRIGGER_ID = f"{ACCOUNT}:comment:17900000000000001"
PARTS: dict[str, dict[str, Any]] = {
    "commentReply": {"texts": ["Look!"]},
    "openingDm": {"text": "Hi", "button": "Go"},
    "askFollow": {"text": "Follow", "button": "Done"},
    "mainDm": {"text": "Here"},
}


def make_payload(step: str = "opening_dm", **changes: Any) -> str:
    values = {"trigger_id": TRIGGER_ID, "run_id": None, "automation_id": "a1", "step": step}
    return build_payload(**(values | changes))


def build_messaging(**element: Any) -> bytes:
    element = {"sender": {"id": PERSON}, "recipient": {"id": ACCOUNT}, "timestamp": 1} | element
    entry = {"id": ACCOUNT, "time": 1, "messaging": [element]}
    return json.dumps({"object": "instagram", "entry": [entry]}).encode()


def build_postback(payload: str, mid: str = "tap1") -> bytes:
    return build_messaging(postback={"mid": mid, "title": "Go", "payload": payload})


def build_quick_reply(payload: str, mid: str = "tap1") -> bytes:
    message = {"mid": mid, "text": "Go", "quick_reply": {"payload": payload}}
    return build_messaging(message=message)


class TestTaps:
    @pytest.fixture(autouse=True)
    def _comment(self, db: Database[dict[str, Any]]) -> None:
        self.db, key = db, ObjectId()
        self.automation_id = str(key)
        self.db["automations"].insert_one(build_automation(key, **PARTS))
        self.db["automations"].insert_one(build_automation("dm", type="dm_auto_responder"))
        comment = build_comment(1, id="17900000000000001")
        comment["from"]["id"] = PERSON
        self.comment = build_body(comment)

    def handle(self, body: bytes, after: timedelta = timedelta(0)) -> DeliverySummary:
        """Handle a delivery and wait until what is in it is counted."""
        summary = handle_delivery(body, arrived_at=T0 + after)
        count_everything(self.db)
        return summary

    def drain(self, after: timedelta = timedelta(0)) -> list[tuple[str, str]]:
        """Let a worker send what is due; return (kind, step) of what went out."""
        graph = FakeGraph()
        Worker(graph).drain(now=T0 + after)
        return graph.sent

    def find(self, mid: str = "tap1") -> Any:
        return self.db["automation_triggers"].find_one({"_id": f"{ACCOUNT}:message:{mid}"})

    def payload(self, step: str = "opening_dm", **changes: Any) -> str:
        return make_payload(step, **({"automation_id": self.automation_id} | changes))

    def find_run_id(self) -> ObjectId:
        [run] = self.db["automation_runs"].find()
        run_id: ObjectId = run["_id"]
        return run_id

    @pytest.mark.parametrize("build", [build_postback, build_quick_reply])
    def test_tap_continues_its_run_and_is_never_one(self, build: Any) -> None:
        self.handle(self.comment)
        run_id = self.find_run_id()
        later = timedelta(hours=2)  # past the window: a new event would be a new run
        summary = self.handle(build(self.payload(run_id=str(run_id))), later)
        assert summary.outcomes == {"stored": 1}
        stored = self.find()
        assert stored.pop("expireAt") > T0 + later
        assert stored == {
            "_id": f"{ACCOUNT}:message:tap1", "accountId": ACCOUNT, "workspaceId": "",
            "automationId": self.automation_id, "automationKey": self.automation_id,
            "triggerType": "opening_dm", "userId": PERSON, "createdAt": T0 + later,
            "occurredAt": stored["occurredAt"], "outcome": "continuation", "runId": run_id,
            "continues": TRIGGER_ID, "state": "queued", "nextAt": T0 + later,
            "send": {
                "tapped": "opening_dm", "position": 0, "via": "dm",
                "windowEndsAt": T0 + later + timedelta(hours=24),
            },
        }  # fmt: skip
        assert self.find_run_id() == run_id
        assert recount(self.db) == []

    def test_tap_on_the_message_of_a_tap_goes_on_from_there(self) -> None:
        self.handle(self.comment)
        self.handle(build_postback(self.payload()))
        self.drain()
        second = self.payload("ask_follow", trigger_id=f"{ACCOUNT}:message:tap1")
        self.handle(build_postback(second, "tap2"), timedelta(seconds=1))
        self.drain(timedelta(seconds=1))
        stored = self.find("tap2")
        assert stored["continues"] == f"{ACCOUNT}:message:tap1"
        assert stored["runId"] == self.find_run_id()
        assert (stored["send"]["rootId"], stored["workspaceId"]) == (TRIGGER_ID, "ws1")
        assert [s["name"] for s in stored["send"]["steps"]] == ["ask_follow", "main_dm"]

    def test_same_tap_again_is_a_redelivery(self) -> None:
        self.handle(self.comment)
        body = build_postback(self.payload())
        assert self.handle(body).outcomes == {"stored": 1}
        assert self.handle(body, timedelta(days=1)).outcomes == {"redelivered": 1}
        assert self.handle(build_postback(self.payload(), "tap2")).outcomes == {"stored": 1}

    def test_duplicates_button_names_the_run_of_its_pair(self) -> None:
        self.handle(self.comment)
        comment = build_comment(2, id="c2")
        comment["from"]["id"] = PERSON
        self.handle(build_body(comment))
        assert self.db["automation_triggers"].count_documents({"outcome": "duplicate"}) == 1
        self.handle(build_postback(self.payload(trigger_id=f"{ACCOUNT}:comment:c2")))
        assert self.find()["runId"] == self.find_run_id()

    def test_long_after_the_automation_as_it_is_now_goes_on(self) -> None:
        self.handle(self.comment)
        self.db["automation_triggers"].delete_many({})
        self.db["automations"].update_one(
            {"_id": ObjectId(self.automation_id)},
            {"$set": {"isActive": False}, "$unset": {"askFollow": ""}},
        )
        run_id, later = ObjectId(), timedelta(days=60)
        self.handle(build_postback(self.payload(run_id=str(run_id))), later)
        self.drain(later)
        stored = self.find()
        assert (stored["runId"], stored["workspaceId"]) == (run_id, "ws1")
        assert stored["state"] == "shadow"  # sent, but for the call: the account has no token
        assert stored["send"]["steps"] == [{"name": "main_dm", "text": "Here", "links": []}]

    def test_tap_of_an_automation_that_is_gone_has_nothing_to_send(self) -> None:
        assert self.handle(build_postback(make_payload())).outcomes == {"stored": 1}
        assert self.drain() == []
        stored = self.find()
        assert (stored["state"], stored["send"]["steps"]) == ("skipped", [])
        assert (stored["outcome"], stored["runId"]) == ("continuation", None)

    @pytest.mark.parametrize("build", [build_postback, build_quick_reply])
    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"trigger_id": "1:comment:17900000000000001"}, id="another account"),
            pytest.param({"trigger_id": "nonsense"}, id="no trigger"),
            pytest.param({}, id="another key"),
        ],
    )
    def test_forged_tap_is_ignored(
        self, build: Any, changes: dict[str, Any], settings: Any
    ) -> None:
        self.handle(self.comment)
        payload = self.payload(**changes)
        if not changes:
            settings.SECRET_KEY = "another"
        summary = self.handle(build(payload))
        assert (summary.outcomes, summary.ignored) == ({}, {"forged_tap": 1})
        assert self.find() is None

    def test_foreign_quick_reply_stays_the_message_that_it_is(self) -> None:
        self.handle(build_quick_reply("SIZES"))
        assert self.find()["outcome"] == "counted"

    def test_taps_and_triggers_of_one_delivery_are_stored_together(self) -> None:
        self.handle(self.comment)
        envelope = json.loads(build_body(*(build_comment(n) for n in range(2, 5))))
        envelope["entry"] += json.loads(build_postback(self.payload()))["entry"]
        summary = self.handle(json.dumps(envelope).encode())
        assert summary.outcomes == {"stored": 4}
        assert self.db["automation_triggers"].count_documents({"outcome": "continuation"}) == 1
        assert recount(self.db) == []

    def test_tap_while_counting_is_off_continues_what_waits_too(self) -> None:
        write_switch(self.db, "tracking", SwitchState.OFF, now=T0)
        second = self.payload("ask_follow", trigger_id=f"{ACCOUNT}:message:tap1")
        for body in (
            self.comment, build_postback(self.payload()), build_postback(second, "tap2"),
        ):  # fmt: skip
            assert handle_delivery(body, arrived_at=T0).outcomes == {"stored": 1}
        assert "outcome" not in self.find()
        write_switch(self.db, "tracking", SwitchState.ON, now=T0)
        count_everything(self.db)
        for mid in ("tap1", "tap2"):
            stored = self.find(mid)
            assert (stored["outcome"], stored["runId"]) == ("continuation", self.find_run_id())
        assert recount(self.db) == []

    def test_echo_settles_what_was_sent_without_an_answer(self) -> None:
        self.handle(self.comment)
        self.db["automation_triggers"].update_one(
            {"_id": TRIGGER_ID},
            {
                "$set": {
                    "state": "unknown", "sendingAt": T0, "send.position": 1,
                    "progress.opening_dm": {"state": "unknown", "at": T0}, "lease.token": 1,
                },
                "$unset": {"nextAt": ""},
            },
        )  # fmt: skip
        echo = build_messaging(
            sender={"id": ACCOUNT}, recipient={"id": PERSON},
            timestamp=int(T0.timestamp() * 1000) + 500,
            message={"mid": "m-out", "text": "Hi", "is_echo": True},
        )  # fmt: skip
        assert self.handle(echo).ignored == {"echo": 1}
        [settled] = self.db["automation_triggers"].find({"_id": TRIGGER_ID})
        assert settled["progress"]["opening_dm"]["state"] == "sent"
        assert settled["mids"] == ["m-out"]


def test_outcomes_are_on_the_run_and_in_its_hour_once(db: Database[dict[str, Any]]) -> None:
    db["automations"].insert_one(build_automation("a1", **PARTS))
    handle_delivery(build_body(*(build_comment(n) for n in range(1, 4))), arrived_at=T0)
    count_everything(db)
    before = list(db["automation_run_stats"].find().sort("_id", 1))
    failed = StepOutcome(run_id=None, automation_id="a1", step="main_dm", state="failed", at=T0)
    sent = msgspec.structs.replace(failed, state="sent", at=T0 + timedelta(hours=5))
    reports = [
        msgspec.structs.replace(sent, run_id=run_id, step=step, is_completed=step == "main_dm")
        for run_id in db["automation_runs"].distinct("_id")
        for step in ("opening_dm", "main_dm")
    ]
    service.record_step_outcomes([*reports[:3], failed])
    service.record_step_outcomes(reports)
    until = T0 + timedelta(seconds=1)
    found = summarize_outcomes("a1", None, from_=T0, to=until, at=until)
    assert found.steps == {"opening_dm.sent": 3, "main_dm.sent": 3}
    assert found.completed == 3
    later = summarize_outcomes("a1", None, from_=T0 + timedelta(hours=1), to=T0 + DAY, at=T0 + DAY)
    assert (later.steps, later.completed) == ({}, 0)
    for run in db["automation_runs"].find():
        assert run["steps"]["main_dm"] == {"state": "sent", "at": sent.at}
        assert run["completedAt"] == sent.at
    # Stats know nothing of it.
    assert list(db["automation_run_stats"].find().sort("_id", 1)) == before
    assert recount(db) == []


def test_what_an_account_ignored_and_had_again_can_be_read(db: Database[dict[str, Any]]) -> None:
    db["automations"].insert_one(build_automation("a1"))
    body = build_body(build_comment(1), build_comment(2, **{"from": {"id": ACCOUNT}}))
    for _ in range(3):
        handle_delivery(body, arrived_at=T0)
    handle_delivery(build_body(build_comment(3), account_id=ACCOUNTS[1]), arrived_at=T0)
    service.close()
    hours: dict[str, Any] = {"from_": T0, "to": T0 + timedelta(seconds=1), "at": T0 + DAY}
    own = summarize_outcomes("a1", ACCOUNT, **hours)
    assert (own.ignored, own.redelivered) == ({"own_comment": 3}, 2)
    other = summarize_outcomes("a1", ACCOUNTS[1], **hours)
    assert (other.ignored, other.redelivered) == ({"no_automation": 1}, 0)
    hours |= {"from_": T0 + timedelta(hours=1), "to": T0 + DAY}
    assert summarize_outcomes("a1", ACCOUNT, **hours).ignored == {}

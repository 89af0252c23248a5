"""The webhook, from Meta's POST to what is stored: the answer table, line by line."""

import hashlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import permutations
from typing import Any

import pytest
from bson import ObjectId
from django.core.management import CommandError, call_command
from django.test import Client
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from automations.instagram.payloads import parse_delivery
from automations.rules import cache
from automations.rules.cache import get_rules_cache
from automations.rules.matching import AccountRules
from automations.webhook import dead_letters, deliveries
from tests.support.verification_cases import verify
from tests.support.webhook_cases import (
    ACCOUNTS,
    CREATED_AT,
    PATH,
    PAYLOAD_NAMES,
    TYPES,
    WebhookCases,
    build_automation,
    build_body,
    build_comment,
    post_body,
    read_payload,
)
from tracking.mongo import client as mongo_client

VERIFY = {
    "hub.mode": "subscribe",
    "hub.challenge": "1158201444",
    "hub.verify_token": "test-verify-token",
}
CURSED = build_comment(2, **{"from": {"id": "666"}})  # of the person whose events fail
# Design: MongoDB has 3 s; what is left is the way there and back.
MOST_SECONDS = 3.2


class TestVerification(WebhookCases):
    def verify(self, **changes: str | None) -> Any:
        wanted = VERIFY | changes
        return Client().get(PATH, {name: v for name, v in wanted.items() if v is not None})

    def test_right_token_gets_the_challenge_back(self) -> None:
        response = self.verify()
        assert (response.status_code, response.content) == (200, b"1158201444")

    def test_challenge_is_plain_text_whatever_it_holds(self) -> None:
        response = self.verify(**{"hub.challenge": "<script>alert('ö')</script>"})
        assert response.content.decode() == "<script>alert('ö')</script>"
        assert response["Content-Type"] == "text/plain; charset=utf-8"
        assert response["X-Content-Type-Options"] == "nosniff"

    @pytest.mark.parametrize(
        "changes",
        [
            {"hub.verify_token": "wrong"},
            {"hub.verify_token": "test-verify-token "},
            {"hub.verify_token": "tést"},
            {"hub.verify_token": ""},
            {"hub.verify_token": None},
            {"hub.mode": "unsubscribe"},
            {"hub.mode": None},
        ],
    )
    def test_wrong_question_is_refused(self, changes: dict[str, str | None]) -> None:
        response = self.verify(**changes)
        assert response.status_code == 403
        assert b"1158201444" not in response.content

    @pytest.mark.parametrize("token", ["", "test-verify-token", None])
    def test_unset_token_refuses_everything(self, settings: Any, token: str | None) -> None:
        settings.INSTAGRAM_VERIFY_TOKEN = ""
        assert self.verify(**{"hub.verify_token": token}).status_code == 403


class TestEveryPayload(WebhookCases):
    @pytest.mark.parametrize("name", PAYLOAD_NAMES)
    def test_every_file_is_acknowledged_and_accounted_for(self, name: str) -> None:
        assert self.post_delivery(name).status_code == 200
        delivery = parse_delivery(read_payload(name))
        triggers = self.list_stored("automation_triggers")
        assert len(triggers) == len({event.event_id for event in delivery.events})
        letters = [letter["error"] for letter in self.list_stored("webhook_dead_letters")]
        assert sorted(letters) == sorted(one.error for one in delivery.malformed)
        runs = self.list_stored("automation_runs")
        pairs = {(one.account_id, one.kind, one.user_id) for one in delivery.events}
        assert len(runs) == len(pairs)

    @pytest.mark.parametrize("name", PAYLOAD_NAMES)
    def test_every_file_is_acknowledged_where_no_automation_listens(self, name: str) -> None:
        assert post_body(read_payload(name)).status_code == 200
        assert self.list_stored("automation_triggers") == []


class TestCounting(WebhookCases):
    @pytest.mark.parametrize(
        ("payload", "type_"),
        [
            ("comments__feed", TYPES[0]),
            ("comments__reply", TYPES[0]),
            ("live_comments__comment", TYPES[0]),
            ("messages__story_reply", TYPES[1]),
            ("messages__story_mention", TYPES[1]),
            ("messages__text", TYPES[2]),
            ("messages__quick_reply", TYPES[2]),
        ],
    )
    def test_each_type_of_automation_triggers(self, payload: str, type_: str) -> None:
        assert self.post_delivery(payload).status_code == 200
        [trigger] = self.list_stored("automation_triggers")
        assert trigger["automationId"] == f"{ACCOUNTS[0]}:{type_}"
        [counted] = self.db["automations"].find({"totalRuns": {"$gt": 0}})
        assert (counted["_id"], counted["totalRuns"]) == (f"{ACCOUNTS[0]}:{type_}", 1)

    @pytest.mark.parametrize("payload", ["messages__story_reply", "messages__story_mention"])
    def test_stories_never_start_a_dm_automation(self, payload: str) -> None:
        self.db["automations"].insert_one(build_automation("dm", type=TYPES[2]))
        assert post_body(read_payload(payload)).status_code == 200
        assert self.list_stored("automation_triggers") == []

    def test_run_is_stored_as_the_live_databases_have_it(self) -> None:
        key = ObjectId()
        reply = {"texts": ["Sent!"]}
        self.db["automations"].insert_one(build_automation(key, commentReply=reply))
        before = datetime.now(UTC)
        assert post_body(read_payload("comments__feed")).status_code == 200
        [run] = self.list_stored("automation_runs")
        assert before - timedelta(milliseconds=1) < run["createdAt"] <= datetime.now(UTC)
        assert run == {
            "_id": run["_id"],
            "automationId": str(key),
            "workspaceId": "ws1",
            "triggerType": "comment_reply",
            "userId": "8800000000000001",
            "metadata": {"messageText": "Price please!", "postId": "18050000000000001"},
            "createdAt": run["createdAt"],
            "eventId": "17900000000000001",
            "occurredAt": datetime(2025, 11, 23, 10, 30, tzinfo=UTC),
        }
        automation = self.db["automations"].find_one({"_id": key})
        assert automation is not None
        assert (automation["totalRuns"], automation["lastRunAt"]) == (1, run["createdAt"])

    def test_trigger_holds_what_has_to_be_sent(self) -> None:
        reply = {"texts": ["Sent!"]}
        self.db["automations"].insert_one(build_automation("a", commentReply=reply))
        post_body(read_payload("comments__feed"))
        [trigger] = self.list_stored("automation_triggers")
        names = [step["name"] for step in trigger["send"]["steps"]]
        assert (names, trigger["state"]) == (["comment_reply", "main_dm"], "queued")
        assert (trigger["outcome"], trigger["triggerType"]) == ("counted", "comment_reply")

    def test_person_without_an_id_counts_by_comment(self) -> None:
        self.post_delivery("comments__without_from")
        self.post_delivery("comments__without_from")
        [run] = self.list_stored("automation_runs")
        assert run["userId"] == "comment:17900000000000001"
        assert run["personUnknown"] is True

    def test_second_event_of_a_person_is_answered_and_not_counted(self) -> None:
        self.insert_automations()
        person = {"id": "8800000000000001"}
        first, second = (build_comment(n, **{"from": person}) for n in (1, 2))
        post_body(build_body(first))
        post_body(build_body(second))
        outcomes = [one["outcome"] for one in self.list_stored("automation_triggers")]
        assert outcomes == ["counted", "duplicate"]
        assert all(one["state"] == "queued" for one in self.list_stored("automation_triggers"))
        assert len(self.list_stored("automation_runs")) == 1

    def test_delivery_of_a_thousand_events_is_one_answer(self) -> None:
        self.insert_automations()
        body = build_body(*(build_comment(n) for n in range(1000)))
        assert post_body(body).status_code == 200
        assert len(self.list_stored("automation_runs")) == 1000
        [counted] = self.db["automations"].find({"totalRuns": {"$gt": 0}})
        assert counted["totalRuns"] == 1000


class TestRedelivery(WebhookCases):
    def assert_counted_once(self, comments: int) -> None:
        assert len(self.list_stored("automation_triggers")) == comments
        assert self.db["automation_runs"].count_documents({}) == comments
        total = sum(one["totalRuns"] for one in self.db["automations"].find())
        assert total == comments

    @pytest.mark.parametrize("payload", ["comments__feed", "messages__text", "comments__ad"])
    def test_ten_redeliveries_are_one_trigger(self, payload: str) -> None:
        for _ in range(10):
            assert self.post_delivery(payload).status_code == 200
        self.assert_counted_once(1)

    def test_other_batches_and_orders_change_nothing(self) -> None:
        self.insert_automations()
        comments = [build_comment(n) for n in range(4)]
        for order in permutations(comments):
            assert post_body(build_body(*order)).status_code == 200
        for comment in comments:
            post_body(build_body(comment, comment))
        self.assert_counted_once(4)

    def test_same_event_twice_in_a_delivery_is_one_trigger(self) -> None:
        self.insert_automations()
        comment = build_comment(1)
        assert post_body(build_body(comment, comment, comment)).status_code == 200
        self.assert_counted_once(1)

    def test_ad_that_notifies_with_another_media_id_is_the_same_event(self) -> None:
        self.insert_automations()
        for media_id in ("18050000000000003", "18050000000000009"):
            post_body(build_body(build_comment(1, media={"id": media_id})))
        self.assert_counted_once(1)

    def test_other_rules_meanwhile_do_not_start_another_automation(self) -> None:
        self.db["automations"].insert_many(
            [build_automation("first"), build_automation("second", isActive=False)]
        )
        body = build_body(build_comment(1))
        post_body(body)
        self.change_automation("first", isActive=False)
        self.change_automation("second", isActive=True)
        post_body(body)
        [trigger] = self.list_stored("automation_triggers")
        assert trigger["automationId"] == "first"
        post_body(build_body(build_comment(2)))
        assert [one["automationId"] for one in self.list_stored("automation_runs")] == [
            "first",
            "second",
        ]

    def test_event_that_nobody_answered_is_answered_once_a_rule_does(self) -> None:
        self.db["automations"].insert_one(build_automation("a", isActive=False))
        body = build_body(build_comment(1))
        post_body(body)
        self.assert_counted_once(0)
        self.change_automation("a", isActive=True)
        post_body(body)
        post_body(body)
        self.assert_counted_once(1)


class TestOwnedAccounts(WebhookCases):
    @pytest.mark.parametrize("owner", ["ws1", "ws2"])
    def test_an_account_answers_for_its_own_workspace_alone(self, owner: str) -> None:
        for workspace_id in ("ws1", "ws2"):
            automation = build_automation(f"of-{workspace_id}", workspaceId=workspace_id)
            self.db["automations"].insert_one(automation)
        self.db["accounts"].insert_one({"_id": ACCOUNTS[0], "workspaceId": owner})
        assert post_body(build_body(build_comment(1))).status_code == 200
        [run] = self.list_stored("automation_runs")
        assert (run["workspaceId"], run["automationId"]) == (owner, f"of-{owner}")

    @pytest.mark.parametrize(
        ("first", "owner"),
        [
            ({}, "ws1"),
            ({"isActive": False}, "ws1"),
            ({"accountId": int(ACCOUNTS[0])}, "ws1"),
            ({"deletedAt": CREATED_AT}, "ws2"),
            ({"workspaceId": None}, "ws2"),
        ],
        ids=str,
    )
    def test_an_account_is_of_the_workspace_that_named_it_first(
        self, first: dict[str, Any], owner: str
    ) -> None:
        """A later and more specific automation of another workspace reads nobody's messages."""
        earlier = build_automation("first", workspaceId="ws1", isActive=True) | first
        later = {"workspaceId": "ws2", "createdAt": CREATED_AT + timedelta(days=1)}
        self.db["automations"].insert_many([build_automation("second", **later), earlier])
        assert post_body(build_body(build_comment(1))).status_code == 200
        expected = ["ws1"] if owner == "ws1" and first.get("isActive", True) else []
        expected = ["ws2"] if owner == "ws2" else expected
        assert [run["workspaceId"] for run in self.list_stored("automation_runs")] == expected
        silent = verify("--only", "automations")[1]["active automations that match nothing"]
        assert ("second (its account belongs to workspace ws1)" in silent["figure"]) is (
            owner == "ws1"
        )

    def test_an_account_that_is_added_leaves_other_workspaces_within_a_second(self) -> None:
        self.insert_automations()
        assert post_body(build_body(build_comment(1))).status_code == 200
        self.db["accounts"].insert_one({"_id": ACCOUNTS[0], "workspaceId": "ws2"})
        get_rules_cache().refresh()
        assert post_body(build_body(build_comment(2))).status_code == 200
        assert len(self.list_stored("automation_triggers")) == 1


class TestIgnored(WebhookCases):
    @pytest.mark.parametrize(
        ("payload", "said"),
        [
            ("envelope__unknown_field", "unknown_field 1"),
            ("envelope__object_page", "other_object 1"),
            ("comments__test_button", "test 1"),
            ("comments__sample_box", "test 1"),
            ("messages__sample_mid", "test 1"),
            ("messages__echo", "echo 1"),
            ("standby__message", "standby 2"),
        ],
    )
    def test_what_is_ignored_is_acknowledged_and_named(
        self, payload: str, said: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "automations")
        assert self.post_delivery(payload).status_code == 200
        assert self.list_stored("automation_triggers") == []
        assert self.list_stored("webhook_dead_letters") == []
        assert f"Ignored: {said}" in caplog.messages

    def test_account_that_no_automation_names_is_ignored(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "automations")
        self.insert_automations()
        body = build_body(build_comment(1), account_id="17841499999999999")
        assert post_body(body).status_code == 200
        assert self.list_stored("automation_triggers") == []
        assert "Ignored: no_automation 1" in caplog.messages

    def test_text_that_no_rule_matches_is_ignored(self) -> None:
        trigger = {"keywords": ["link"]}
        self.db["automations"].insert_one(build_automation("a", trigger=trigger))
        assert post_body(build_body(build_comment(1, text="so pretty"))).status_code == 200
        assert self.list_stored("automation_triggers") == []


class TestDeadLetters(WebhookCases):
    payload = "comments__batch_with_one_broken"

    def replay(self, *options: str) -> str:
        out = StringIO()
        call_command("replay_dead_letters", *options, stdout=out)
        return out.getvalue()

    def replay_lines(self, *options: str) -> list[str]:
        """Return the last two lines: how many were replayed, and how many wait."""
        return self.replay(*options).splitlines()[-2:]

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"{", id="not-json"),
            pytest.param(b"[" * 200_000, id="too-deep"),
            pytest.param(b'{"object": "instagram"}', id="no-entry"),
        ],
    )
    def test_unreadable_body_is_acknowledged_and_kept_as_it_came(
        self, body: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert post_body(body).status_code == 200
        [letter] = self.list_stored("webhook_dead_letters")
        assert (letter["raw"], letter["received"], letter["state"]) == (body, 1, "waiting")
        [line] = [one for one in caplog.messages if "dead letter" in one]
        assert line == f"⚠️ [TRACKING] Delivery kept as dead letter: {letter['error']}"

    def test_same_body_is_kept_once_with_its_first_arrival(self) -> None:
        post_body(b"{")
        [first] = self.list_stored("webhook_dead_letters")
        post_body(b"{")
        [again] = self.list_stored("webhook_dead_letters")
        assert again == first | {"received": 2}

    def test_broken_element_alone_is_kept_and_the_rest_is_counted(self) -> None:
        assert self.post_delivery(self.payload).status_code == 200
        assert len(self.list_stored("automation_triggers")) == 2
        [letter] = self.list_stored("webhook_dead_letters")
        [entry] = json.loads(letter["raw"])["entry"]
        assert len(entry["changes"]) == 1
        assert letter["error"].endswith(".text should be a string, not an array")

    def test_message_text_is_never_in_the_error_or_the_log(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        post_body(build_body(build_comment(1, text=["my secret"])))
        post_body(b'"my secret')
        errors = [letter["error"] for letter in self.list_stored("webhook_dead_letters")]
        assert len(errors) == 2
        assert "my secret" not in str(errors) + caplog.text

    @pytest.fixture
    def bug(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
        """Every match of the person 666 fails, until the bug is mended by a call."""
        match = AccountRules.match

        def fail(rules: AccountRules, event: Any) -> Any:
            if event.user_id == "666":
                raise RuntimeError("a bug of ours")
            return match(rules, event)

        with monkeypatch.context() as patch:
            patch.setattr(AccountRules, "match", fail)
            yield lambda: patch.setattr(AccountRules, "match", match)

    def test_bug_on_one_event_keeps_it_and_counts_the_rest(
        self, bug: Callable[[], None], caplog: pytest.LogCaptureFixture
    ) -> None:
        self.insert_automations()
        body = build_body(build_comment(1), CURSED, build_comment(3))
        assert post_body(body).status_code == 200
        assert len(self.list_stored("automation_runs")) == 2
        [letter] = self.list_stored("webhook_dead_letters")
        assert letter["error"] == "RuntimeError"
        assert "❌ [TRACKING] Event not handled" in caplog.messages

    def test_replay_counts_at_the_original_arrival_and_is_safe_twice(
        self, bug: Callable[[], None]
    ) -> None:
        self.insert_automations()
        post_body(build_body(build_comment(1), CURSED))
        arrived_at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=5)
        self.db["webhook_dead_letters"].update_one({}, {"$set": {"arrivedAt": arrived_at}})
        assert self.replay_lines() == ["dead letters replayed: 0", "dead letters waiting: 1"]
        [letter] = self.list_stored("webhook_dead_letters")
        assert letter["arrivedAt"] == arrived_at
        bug()
        assert self.replay_lines("--dry-run")[-1] == "dead letters waiting: 1"
        assert self.replay_lines() == ["dead letters replayed: 1", "dead letters waiting: 0"]
        assert self.list_stored("webhook_dead_letters") == []
        assert self.recount() == []
        [run] = self.db["automation_runs"].find({"userId": "666"})
        assert (run["createdAt"], run["eventId"]) == (arrived_at, CURSED["id"])
        assert self.replay_lines() == ["dead letters replayed: 0", "dead letters waiting: 0"]
        assert len(self.list_stored("automation_runs")) == 2

    def test_replay_of_what_was_counted_meanwhile_counts_nothing(
        self, bug: Callable[[], None]
    ) -> None:
        self.insert_automations()
        body = build_body(CURSED)
        post_body(body)
        bug()
        post_body(body)
        assert self.replay().splitlines()[:2] == [
            "triggers stored: 0, stored before: 1", "dead letters replayed: 1",
        ]  # fmt: skip
        assert len(self.list_stored("automation_runs")) == 1

    @pytest.mark.parametrize(("hours", "outcome"), [(5, "counted"), (1, "duplicate")])
    def test_a_letter_older_than_its_pairs_newest_run_is_counted_if_no_run_is_near(
        self, bug: Callable[[], None], hours: int, outcome: str
    ) -> None:
        self.insert_automations()
        post_body(build_body(CURSED))
        arrived_at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=hours, minutes=-5)
        self.db["webhook_dead_letters"].update_one({}, {"$set": {"arrivedAt": arrived_at}})
        bug()
        post_body(build_body(CURSED | {"id": "3"}))
        self.count()
        assert self.replay().splitlines()[0] == "triggers stored: 1, stored before: 0"
        self.count()
        trigger = self.db["automation_triggers"].find_one({"createdAt": arrived_at})
        assert trigger is not None
        assert trigger["outcome"] == outcome
        assert self.recount() == []

    def test_while_tracking_is_off_a_letter_waits_to_be_counted(
        self, bug: Callable[[], None]
    ) -> None:
        self.insert_automations()
        post_body(build_body(CURSED))
        bug()
        call_command("tracking", "off", stdout=StringIO())
        assert self.replay().splitlines()[0] == "triggers stored: 1, stored before: 0"
        assert self.db["webhook_dead_letters"].count_documents({}) == 0
        assert self.db["automation_runs"].count_documents({}) == 0
        call_command("tracking", "on", stdout=StringIO())
        assert len(self.list_stored("automation_runs")) == 1
        assert self.recount() == []

    def test_letters_are_listed_without_content_and_can_be_given_up(self) -> None:
        post_body(b'"my secret')
        post_body(b"{")
        first, second, last = self.replay("--list").splitlines()
        assert last == "dead letters waiting: 2"
        letter_id, _, _, _, _, size, *_ = first.split(" ")
        assert (letter_id, size) == (hashlib.sha256(b'"my secret').hexdigest(), "10")
        assert "0.0 h old" in first
        assert "secret" not in first
        discarded = self.replay("--discard", letter_id)
        assert discarded == f"dead letter discarded: {letter_id}\n"
        assert self.replay("--list").splitlines() == [second, "dead letters waiting: 1"]
        with pytest.raises(CommandError, match="There is no dead letter"):
            self.replay("--discard", letter_id)

    def test_what_is_still_unreadable_stays(self) -> None:
        post_body(b"{")
        self.post_delivery(self.payload)
        before = self.list_stored("webhook_dead_letters")
        assert self.replay_lines() == ["dead letters replayed: 0", "dead letters waiting: 2"]
        after = self.list_stored("webhook_dead_letters")
        assert [one["raw"] for one in after] == [one["raw"] for one in before]
        assert [one["arrivedAt"] for one in after] == [one["arrivedAt"] for one in before]

    def test_replay_says_when_the_database_is_away(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dead_letters, "_SECONDS", 0.6)
        settings.MONGODB_URI = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=50"
        with pytest.raises(CommandError, match="MongoDB did not answer"):
            self.replay()

    def test_bug_on_storing_keeps_the_event_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.insert_automations()
        build = deliveries.build_metadata

        def build_what_bson_refuses(event: Any) -> dict[str, Any]:
            is_cursed = event.user_id == "666"
            return {"text": object()} if is_cursed else build(event)

        body = build_body(build_comment(1), CURSED, build_comment(3))
        with monkeypatch.context() as patch:
            patch.setattr(deliveries, "build_metadata", build_what_bson_refuses)
            assert post_body(body).status_code == 200
        assert len(self.list_stored("automation_runs")) == 2
        [letter] = self.list_stored("webhook_dead_letters")
        assert letter["error"] == "cannot be stored"
        assert self.replay_lines()[0] == "dead letters replayed: 1"
        assert len(self.list_stored("automation_runs")) == 3


class TestLogLines(WebhookCases):
    def test_the_lines_are_exactly_those_of_the_contract(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        key = ObjectId()
        self.db["automations"].insert_one(build_automation(key, commentReply={"texts": ["Sent!"]}))
        person = {"from": {"id": "8800000000000001"}}
        body = build_body(build_comment(1, **person), build_comment(2, **person))
        post_body(body)
        post_body(body)
        self.count()
        lines = [record.getMessage() for record in caplog.records if record.name == "tracking"]
        assert lines == [
            f"✅ [TRACKING] Automation run tracked: {key} (comment_reply)",
            "ℹ️ [TRACKING] Duplicate run skipped for user 8800000000000001",
        ]

    def test_an_automation_without_steps_is_an_opening_dm(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        self.db["automations"].insert_one(build_automation("a", mainDm=None))
        post_body(read_payload(self.payload))
        self.count()
        assert "✅ [TRACKING] Automation run tracked: a (opening_dm)" in caplog.messages

    def test_no_line_holds_a_text_or_a_name(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        for name in PAYLOAD_NAMES:
            self.post_delivery(name)
        self.count()
        said = "\n".join(caplog.messages)
        assert "ana.example" not in said
        assert "rice please" not in said


class Listener(CommandListener):
    """Notes (thread, command, collection) of what a process sends."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        name = event.command_name
        self.commands.append((threading.current_thread().name, name, event.command[name]))

    def succeeded(self, event: CommandSucceededEvent) -> None: ...
    def failed(self, event: CommandFailedEvent) -> None: ...


class TestOneInsert(WebhookCases):
    def test_a_delivery_waits_for_one_insert_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What other threads do, counters above all, no delivery waits for."""
        listener = Listener()
        monkeypatch.setitem(mongo_client._TUNING, "event_listeners", [listener])
        # However slow the machine is, the rules are read once.
        monkeypatch.setattr(cache, "_FRESH_SECONDS", 600.0)
        self.insert_automations()
        first, *others = (build_body(build_comment(number)) for number in range(20))
        post_body(first)  # reads the rules, which are cached then
        listener.commands.clear()
        for body in others:
            assert post_body(body).status_code == 200
        this = threading.current_thread().name
        waited_for = [one for one in listener.commands if one[0] in (this, "tracking-storage")]
        assert [one[1:] for one in waited_for] == [("insert", "automation_triggers")] * len(others)

    def test_an_odd_run_or_a_counter_that_fails_delays_no_answer(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError("a bug of ours")

        self.insert_automations()
        monkeypatch.setattr("tracking.counting.batch.BatchCounter.count", fail)
        for number in range(10):
            assert post_body(build_body(build_comment(number))).status_code == 200
        assert self.db["automation_triggers"].count_documents({"outcome": None}) == 10
        monkeypatch.undo()
        assert len(self.list_stored("automation_runs")) == 10


class TestUnavailable(WebhookCases):
    def assert_put_off(self, body: bytes) -> None:
        started = time.monotonic()
        response = post_body(body)
        assert time.monotonic() - started < MOST_SECONDS
        assert response.status_code == 503
        assert int(response["Retry-After"]) > 0

    @pytest.fixture
    def deaf_server(self) -> Iterator[str]:
        """A server that takes connections and never says a word."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            yield f"mongodb://127.0.0.1:{listening.getsockname()[1]}/away"

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(read_payload("comments__feed"), id="event"),
            pytest.param(b"{", id="dead-letter"),
            pytest.param(read_payload("comments__batch_with_one_broken"), id="both"),
        ],
    )
    def test_server_that_is_away_is_503(self, settings: Any, body: bytes) -> None:
        settings.MONGODB_URI = "mongodb://127.0.0.1:1/away"
        self.assert_put_off(body)

    def test_server_that_does_not_answer_is_503(self, settings: Any, deaf_server: str) -> None:
        settings.MONGODB_URI = deaf_server
        self.assert_put_off(read_payload(self.payload))

    def test_what_needs_no_database_is_acknowledged_without_one(self, settings: Any) -> None:
        settings.MONGODB_URI = "mongodb://127.0.0.1:1/away"
        assert post_body(read_payload("messages__deleted")).status_code == 200

    def test_echo_comes_again_because_it_may_settle_what_was_sent(self, settings: Any) -> None:
        settings.MONGODB_URI = "mongodb://127.0.0.1:1/away"
        assert post_body(read_payload("messages__echo")).status_code == 503

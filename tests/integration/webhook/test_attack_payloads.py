"""Hostile bodies: signed they are acknowledged and nothing is lost, unsigned nobody reads them."""

from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from automations.accounts.accounts import finish_notes
from automations.instagram.events import UnreadableDelivery
from automations.instagram.payloads import build_envelope as build_raw
from automations.instagram.payloads import parse_delivery
from automations.rules.cache import get_rules_cache
from tests.support.attack_corpus import (
    ACCOUNT,
    UNREADABLE,
    WITH_NEIGHBOUR,
    bodies,
    build_comment,
    build_envelope,
    list_mutants,
    write,
)
from tests.support.webhook_cases import PAYLOAD_NAMES, WebhookCases, post_body, sign
from tracking import service
from tracking.rollups.account_hours import AccountHours

NEIGHBOUR = f"{ACCOUNT}:comment:neighbour"
# The database lives as long as the test: what one example leaves is no harm to the next.
ATTACK = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30
)


class TestSigned(WebhookCases):
    def is_counted(self, trigger_id: str) -> bool:
        self.count()
        trigger = self.db["automation_triggers"].find_one({"_id": trigger_id})
        return trigger is not None and trigger["outcome"] == "counted"

    @pytest.mark.parametrize("name", WITH_NEIGHBOUR)
    def test_a_good_neighbour_counts_and_the_other_is_accounted_for(self, name: str) -> None:
        self.insert_automations()
        assert post_body(WITH_NEIGHBOUR[name]).status_code == 200
        assert self.is_counted(NEIGHBOUR)
        others = self.db["automation_triggers"].count_documents({"_id": {"$ne": NEIGHBOUR}})
        assert others + self.db["webhook_dead_letters"].count_documents({}) == 1

    @pytest.mark.parametrize("part", range(8))
    def test_any_type_in_any_place_of_a_payload_leaves_the_neighbour_alone(self, part: int) -> None:
        self.insert_automations()
        mutants = [one for name in PAYLOAD_NAMES[part::8] for one in list_mutants(name)]
        # Every third break of every file, at once: the parser's own test has them all, one by one.
        broken = [one for one in mutants[part % 3 :: 3] if not isinstance(one, list)]
        neighbour = build_envelope(build_comment(id="neighbour", **{"from": {"id": "n"}}))
        body = write([*broken, neighbour])
        delivery = parse_delivery(body)
        assert post_body(body).status_code == 200
        assert self.is_counted(NEIGHBOUR)
        kept = self.db["webhook_dead_letters"].count_documents({})
        assert kept == len({one.raw for one in delivery.malformed})

    def test_no_body_breaks_the_webhook_and_nothing_is_lost(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # A thread that reads or writes meanwhile draws random numbers, and hypothesis takes them
        # for its own.
        monkeypatch.setattr("tracking.counting.counter.Counter.start", lambda _: None)
        monkeypatch.setattr(service, "AccountHours", partial(AccountHours, seconds=3600.0))
        self.insert_automations()

        @ATTACK
        @given(body=bodies())
        def attack(body: bytes) -> None:
            assert post_body(body).status_code == 200
            finish_notes()
            letters = self.db["webhook_dead_letters"]
            try:
                delivery = parse_delivery(body)
            except UnreadableDelivery:
                assert letters.find_one({"raw": body}) is not None
                return
            for malformed in delivery.malformed:
                assert letters.find_one({"raw": malformed.raw}) is not None
            for event in delivery.events:
                # Of other accounts nothing is answered; every own event is of some rule.
                key = f"{event.account_id}:{event.kind}:{event.event_id}"
                if self.db["automations"].find_one({"accountId": event.account_id}):
                    assert self.find_kept(key, event) or not self.is_matched(event)

        attack()

    def find_kept(self, key: str, event: Any) -> bool:
        """Say whether an event is a trigger, or a letter because it cannot be stored."""
        if self.db["automation_triggers"].find_one({"_id": key}) is not None:
            return True
        raw = build_raw(event.entry)
        return self.db["webhook_dead_letters"].find_one({"raw": raw}) is not None

    def is_matched(self, event: Any) -> bool:
        rules = get_rules_cache().get_rules({event.account_id}, seconds=3.0)
        return rules[event.account_id].match(event) is not None


class TestUnsigned(WebhookCases):
    def test_the_corpus_is_refused(self) -> None:
        self.insert_automations()
        for name, body in (UNREADABLE | WITH_NEIGHBOUR).items():
            for signature in (None, sign(body, "guess"), sign(body + b" ")):
                assert post_body(body, signature=signature).status_code == 403, name
        for name in ("automation_triggers", "automation_runs", "webhook_dead_letters"):
            assert self.list_stored(name) == []

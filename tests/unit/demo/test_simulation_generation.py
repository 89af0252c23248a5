import json
from itertools import islice
from typing import Any

import pytest

from automations.demo.simulation import Plan, SimulatedDelivery, Target, generate_deliveries
from automations.instagram.payloads import parse_delivery

NOW_MS = 1_795_430_400_123
COMMENTS = Target(kind="comment", account_id="17841400000000001", keywords=("link",))
DMS = Target(kind="dm", account_id="17841400000000001", keywords=("price", "hours"))
STORIES = Target(kind="story_reply", account_id="17841400000000002", match="any")
ALL = (COMMENTS, DMS, STORIES)


def generate(**options: Any) -> list[SimulatedDelivery]:
    options.setdefault("targets", ALL)
    return list(generate_deliveries(Plan(**options), clock_ms=lambda: NOW_MS))


def first_events(deliveries: list[SimulatedDelivery]) -> list[Any]:
    return [e for d in deliveries if not (d.is_redelivery or d.is_forged) for e in d.events]


def test_same_seed_makes_same_bytes() -> None:
    options = {"events": 300, "bad_signatures": 0.1, "seed": 7}
    assert generate(**options) == generate(**options)
    assert generate(**options) != generate(**options | {"seed": 8})


def test_makes_exactly_the_events_asked_for_each_with_its_own_id() -> None:
    events = first_events(generate(events=2000, batch=37, duplicates=0.4))
    assert len(events) == len({(e.kind, e.event_id) for e in events}) == 2000
    endless = generate_deliveries(Plan(targets=ALL, events=None), clock_ms=lambda: NOW_MS)
    assert sum(len(d.events) for d in islice(endless, 500)) >= 500


@pytest.mark.parametrize("target", ALL, ids=lambda target: target.kind)
def test_what_is_simulated_is_read_as_it_was_meant(target: Target) -> None:
    (delivery,) = generate(targets=(target,), events=1, text="süß 1/2", redeliveries=0)
    assert rb"s\u00fc\u00df 1\/2" in delivery.body  # escaped as Meta does
    (meant,) = delivery.events
    [event] = parse_delivery(delivery.body).events
    assert (event.kind, event.account_id) == (meant.kind, target.account_id)
    for name in ("event_id", "user_id", "text", "story_id"):
        assert getattr(event, name) == getattr(meant, name)
    assert event.media_ids == ((meant.media_id,) if meant.media_id else ())


def test_a_large_body_holds_several_entries_and_both_shapes() -> None:
    delivery = generate(events=200, batch=200, redeliveries=0)[0]
    entries = json.loads(delivery.body)["entry"]
    assert len(entries) > 10
    assert {"changes", "messaging"} <= {key for entry in entries for key in entry}


def test_duplicates_are_new_events_of_the_same_person() -> None:
    events = first_events(generate(targets=(COMMENTS,), events=4000, duplicates=0.3, misses=0))
    assert 0.25 < 1 - len({e.user_id for e in events}) / 4000 < 0.35
    alone = first_events(generate(targets=(COMMENTS,), events=500, duplicates=0))
    assert len({e.user_id for e in alone}) == 500


def test_redeliveries_carry_known_events_also_in_other_batches() -> None:
    known, bodies = set[str](), set[bytes]()
    is_same = []
    for delivery in generate(events=3000, batch=5, redeliveries=0.5):
        ids = {e.event_id for e in delivery.events}
        if delivery.is_redelivery:
            assert ids <= known
            is_same.append(delivery.body in bodies)
        known |= ids
        bodies.add(delivery.body)
    assert min(is_same.count(True), is_same.count(False)) > 50


def test_forged_deliveries_have_events_of_their_own() -> None:
    deliveries = generate(events=1000, batch=5, bad_signatures=0.3)
    forged = {e.event_id for d in deliveries if d.is_forged for e in d.events}
    honest = {e.event_id for d in deliveries if not d.is_forged for e in d.events}
    assert forged
    assert not forged & honest
    assert len(honest) == 1000


def test_keywords_posts_and_texts_are_those_of_the_target() -> None:
    exact = Target(kind="dm", account_id="1", keywords=("big sale",), match="exact")
    events = first_events(generate(targets=(exact,), events=100, misses=0.2))
    for event in events:
        assert (event.text.strip().casefold() == "big sale") is event.is_match
    assert 60 < sum(event.is_match for event in events) < 95
    named = Target(kind="comment", account_id="1", keywords=("a",), post_ids=("7", "8"))
    assert {e.media_id for e in first_events(generate(targets=(named,), events=100))} == {"7", "8"}

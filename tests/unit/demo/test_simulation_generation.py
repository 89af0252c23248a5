import json
from collections import Counter
from itertools import islice
from typing import Any

from automations.demo.simulation import Plan, SimulatedDelivery, Target, generate_deliveries
from automations.demo.simulation.personas import Ids

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


def test_a_plan_without_an_end_goes_on() -> None:
    endless = generate_deliveries(Plan(targets=ALL, events=None), clock_ms=lambda: NOW_MS)
    assert sum(len(d.events) for d in islice(endless, 500)) >= 500


def test_comments_have_shape_a_with_seconds() -> None:
    (delivery,) = generate(targets=(COMMENTS,), events=1, redeliveries=0)
    body = json.loads(delivery.body)
    (event,) = delivery.events
    value = {
        "id": event.event_id,
        "text": event.text,
        "media": {"id": event.media_id, "media_product_type": "FEED"},
        "from": {"id": event.user_id, "username": event.username},
    }
    changes = [{"field": "comments", "value": value}]
    entry = {"id": COMMENTS.account_id, "time": NOW_MS // 1000, "changes": changes}
    assert body == {"object": "instagram", "entry": [entry]}
    assert event.event_id.isdigit()


def test_story_replies_have_shape_c_with_milliseconds() -> None:
    (delivery,) = generate(targets=(STORIES,), events=1, redeliveries=0)
    (entry,) = json.loads(delivery.body)["entry"]
    (element,) = entry["messaging"]
    event = delivery.events[0]
    assert (entry["time"], element["timestamp"]) == (NOW_MS, NOW_MS)
    assert element["sender"]["id"] == event.user_id
    assert element["recipient"]["id"] == STORIES.account_id
    assert element["message"]["mid"] == event.event_id
    assert element["message"]["reply_to"]["story"]["id"] == event.story_id


def test_body_is_escaped_as_meta_escapes_it() -> None:
    (delivery,) = generate(targets=(DMS,), events=1, text="süß 1/2", redeliveries=0)
    assert rb"s\u00fc\u00df 1\/2" in delivery.body


def test_a_large_body_holds_several_entries_and_both_shapes() -> None:
    delivery = generate(events=200, batch=200, redeliveries=0)[0]
    entries = json.loads(delivery.body)["entry"]
    assert len(entries) > 10
    assert {"changes", "messaging"} <= {key for entry in entries for key in entry}
    assert sum(len(e.get("changes", e.get("messaging"))) for e in entries) == 200


def test_duplicates_are_new_events_of_the_same_person() -> None:
    events = first_events(generate(targets=(COMMENTS,), events=4000, duplicates=0.3, misses=0))
    repeated = 4000 - len({e.user_id for e in events})
    assert 0.25 < repeated / 4000 < 0.35
    alone = first_events(generate(targets=(COMMENTS,), events=500, duplicates=0))
    assert len({e.user_id for e in alone}) == len(alone) == 500


def test_nobody_is_a_duplicate_an_hour_later() -> None:
    clock = iter(range(0, 10**12, 20 * 60 * 1000))  # every look at it is 20 minutes later
    plan = Plan(targets=(COMMENTS,), events=300, duplicates=1.0, batch=1, misses=0)
    last_seen: dict[str, int] = {}
    for event in first_events(list(generate_deliveries(plan, clock_ms=lambda: next(clock)))):
        assert event.at_ms - last_seen.get(event.user_id, event.at_ms) < 60 * 60 * 1000
        last_seen[event.user_id] = event.at_ms


def test_redeliveries_carry_known_events_only() -> None:
    deliveries = generate(events=3000, batch=5, redeliveries=0.5)
    known: set[str] = set()
    bodies: set[bytes] = set()
    rebatched = same = 0
    for delivery in deliveries:
        ids = {e.event_id for e in delivery.events}
        if delivery.is_redelivery:
            assert ids <= known
            same += delivery.body in bodies
            rebatched += delivery.body not in bodies
        known |= ids
        bodies.add(delivery.body)
    assert same > 50
    assert rebatched > 50


def test_every_redelivery_that_is_due_comes_before_the_end() -> None:
    deliveries = generate(events=100, batch=10, redeliveries=1.0)
    again = Counter(e.event_id for d in deliveries if d.is_redelivery for e in d.events)
    assert len(again) == 100
    assert set(again.values()) == {1}


def test_forged_deliveries_have_events_of_their_own() -> None:
    deliveries = generate(events=1000, batch=5, bad_signatures=0.3)
    forged = {e.event_id for d in deliveries if d.is_forged for e in d.events}
    honest = {e.event_id for d in deliveries if not d.is_forged for e in d.events}
    assert forged
    assert not forged & honest
    assert len(honest) == 1000


def test_a_share_misses_every_keyword_of_the_account() -> None:
    events = first_events(generate(targets=(COMMENTS, DMS), events=1000, misses=0.2, duplicates=0))
    misses = [e for e in events if not e.is_match]
    assert 0.15 < len(misses) / 1000 < 0.25
    for event in events:
        has_keyword = any(k in event.text.casefold() for k in ("link", "price", "hours"))
        assert has_keyword is event.is_match


def test_keywords_posts_and_texts_are_those_of_the_target() -> None:
    exact = Target(kind="dm", account_id="1", keywords=("big sale",), match="exact")
    texts = {e.text for e in first_events(generate(targets=(exact,), events=100, misses=0))}
    assert {text.strip().casefold() for text in texts} == {"big sale"}
    named = Target(kind="comment", account_id="1", keywords=("a",), post_ids=("7", "8"))
    assert {e.media_id for e in first_events(generate(targets=(named,), events=100))} == {"7", "8"}
    assert {e.text for e in first_events(generate(events=50, text="LINK"))} == {"LINK"}


def test_ids_never_come_twice() -> None:
    ids, number = Ids(3), 10_000
    assert len({ids.make_comment_id() for _ in range(number)}) == number
    assert len({ids.make_mid("1") for _ in range(number)}) == number
    assert len({ids.make_person("1", n)[0] for n in range(number)}) == number

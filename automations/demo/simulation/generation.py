"""Deliveries without end or up to a number, reproducible from a seed (pure; the clock is given)."""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from random import Random

import msgspec

from automations.demo.simulation import bodies
from automations.demo.simulation.personas import Ids, find_chatter, make_ask, make_random
from automations.demo.simulation.plan import Plan, SimulatedDelivery, SimulatedEvent, Target

# Events per delivery -> weight. Meta sends single updates when it is quiet and batches them, up to
# 1000, when a post goes viral.
_BATCH_MIX = {1: 70, 2: 10, 3: 6, 5: 5, 10: 4, 25: 3, 60: 2}
# A pair is reused only well within the hour, so that a slow run still makes real duplicates.
_REUSE_WITHIN_MS = 50 * 60 * 1000
_LARGEST_BATCH = 1000
_POSTS_PER_ACCOUNT = 12
_REPLY_SHARE = 0.05


class _Audience(msgspec.Struct):
    """The people who write to one target: new ones and recent ones."""

    target: Target
    next_person: int  # targets start at different people, so that small pools differ too
    chatter: tuple[str, ...]
    recent: deque[tuple[int, int]]  # (at_ms, person)


def generate_deliveries(
    plan: Plan, *, clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
) -> Iterator[SimulatedDelivery]:
    """Yield deliveries until the plan's events are all out, redeliveries a few deliveries later.

    `clock_ms` is the time of each delivery, in milliseconds since 1970. The first delivery of an
    event always comes before its redeliveries.
    """
    rng = make_random("deliveries", plan.seed)
    events = _generate_events(plan, clock_ms)
    sizes, weights = list(_BATCH_MIX), list(_BATCH_MIX.values())
    left = plan.events
    waiting: list[tuple[int, SimulatedDelivery]] = []  # (due after n more deliveries, which)

    def build(batch: Sequence[SimulatedEvent], **flags: bool) -> SimulatedDelivery:
        body = bodies.build_body(map(_build_element, batch), sent_at_ms=clock_ms())
        return SimulatedDelivery(events=tuple(batch), body=body, **flags)

    def redeliver(deliveries: list[SimulatedDelivery]) -> Iterator[SimulatedDelivery]:
        """Yield deliveries as they were, or their events shuffled, in other bodies."""
        events: list[SimulatedEvent] = []
        for delivery in deliveries:
            if rng.random() < 0.5:
                yield msgspec.structs.replace(delivery, is_redelivery=True)
            else:
                events += delivery.events
        rng.shuffle(events)
        while events:
            size = rng.randint(1, min(len(events), _LARGEST_BATCH))
            yield build(events[:size], is_redelivery=True)
            del events[:size]

    while left is None or left > 0:
        size = plan.batch or rng.choices(sizes, weights)[0]
        if rng.random() < plan.bad_signatures:
            yield build(list(islice(events, size)), is_forged=True)
            continue
        if left is not None:
            size = min(size, left)
            left -= size
        delivery = build(list(islice(events, size)))
        yield delivery
        if rng.random() < plan.redeliveries:
            waiting.append((rng.randint(0, 8), delivery))
        due = [one for wait, one in waiting if wait <= 0]
        waiting = [(wait - 1, one) for wait, one in waiting if wait > 0]
        yield from redeliver(due)
    yield from redeliver([one for _, one in waiting])


def _generate_events(plan: Plan, clock_ms: Callable[[], int]) -> Iterator[SimulatedEvent]:
    rng, ids = make_random("events", plan.seed), Ids(plan.seed)
    words: defaultdict[str, set[str]] = defaultdict(set)
    for target in plan.targets:
        words[target.account_id].update(target.keywords)
    audiences = [
        _Audience(target, number, find_chatter(words[target.account_id]), deque(maxlen=4096))
        for number, target in enumerate(plan.targets)
    ]
    while True:
        at_ms = clock_ms()
        audience = rng.choice(audiences)
        target, person, is_match = audience.target, None, True
        if rng.random() < plan.duplicates and audience.recent:
            then, recent = rng.choice(audience.recent)
            person = recent if at_ms - then < _REUSE_WITHIN_MS else None
        if person is None:
            is_match = target.match == "any" or rng.random() >= plan.misses
            person = audience.next_person
            audience.next_person += 1
        if is_match:
            audience.recent.append((at_ms, person))
        if plan.text is not None:
            text = plan.text
        elif is_match or not audience.chatter:
            text = make_ask(rng, keywords=target.keywords, match=target.match)
        else:
            text = rng.choice(audience.chatter)
        user_id, username = ids.make_person(target.account_id, person)
        is_comment = target.kind == "comment"
        is_reply = is_comment and rng.random() < _REPLY_SHARE
        yield SimulatedEvent(
            sim_kind=target.kind,
            account_id=target.account_id,
            event_id=ids.make_comment_id() if is_comment else ids.make_mid(target.account_id),
            user_id=user_id,
            username=username,
            text=text,
            media_id=_pick_post(rng, target) if is_comment else None,
            parent_id=ids.make_comment_id() if is_reply else None,
            story_id=_pick_post(rng, target) if target.kind == "story_reply" else None,
            at_ms=at_ms,
            is_match=is_match,
        )


def _pick_post(rng: Random, target: Target) -> str:
    if target.post_ids and target.kind == "comment":
        return rng.choice(target.post_ids)
    number = rng.randrange(_POSTS_PER_ACCOUNT)
    return str(17_900_000_000_000_000 + sum(target.account_id.encode()) * 10_007 + number * 97)


def _build_element(event: SimulatedEvent) -> bodies.Element:
    if event.kind == "message":
        content = bodies.build_text(event.text, story_id=event.story_id)
        return bodies.build_messaging(
            event.account_id, event.user_id, event.event_id, content, at_ms=event.at_ms
        )
    return bodies.build_comment(
        event.account_id,
        event.event_id,
        event.text,
        media_id=event.media_id,
        person=(event.user_id, event.username),
        parent_id=event.parent_id,
    )

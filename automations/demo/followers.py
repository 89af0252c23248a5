"""The followers of a demo: they comment, write, answer stories, tap what they get, and follow."""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

from automations.demo.sandbox import Received, Sandbox
from automations.demo.simulation import Plan, SimulatedEvent, Target, generate_deliveries
from automations.demo.simulation.personas import make_random

logger = logging.getLogger("automations.demo")

# An account may answer 750 comments an hour (automations/outbox/rate_limits.py keeps below). With
# more of them a conversation would wait for hours, and no visitor would see it end.
_COMMENT_PACE_SECONDS = 6.0
_COMMENT_BURST = 10
_FOLLOWS_ALREADY, _TAPS, _FOLLOWS_WHEN_ASKED = 0.2, 0.85, 0.8
_LEAST_THINKING_SECONDS, _MOST_THINKING_SECONDS = 0.3, 4.0
# The stand-in forgets earlier people, because a demo may run for days.
_REMEMBERED_PEOPLE = 5000
_LOOK_SECONDS = 0.05


class Followers:
    """People who write to the targets, `rate` times a second, from a thread of their own.

    `on_received` goes to the sandbox that `start` gets. The same seed is the same people.
    """

    def __init__(self, targets: tuple[Target, ...], *, rate: float, seed: int) -> None:
        self._targets = targets
        self._rate = rate
        self._seed = seed
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._meta: Sandbox | None = None
        self._known: deque[str] = deque()
        self._random = make_random("followers", seed)
        self._tap_random = make_random("taps", seed)  # used by the sandbox's threads
        self._has_others = any(target.kind != "comment" for target in targets)
        self._comments_until = 0.0
        self._thread: threading.Thread | None = None

    def start(self, meta: Sandbox) -> None:
        """Begin to act in `meta`, unless there is no target or no rate."""
        self._meta = meta
        if self._rate and self._targets:
            self._thread = threading.Thread(target=self._run, args=(meta,), daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def on_received(self, received: Received) -> None:
        """Plan a tap on the button of a message, if it has one."""
        button = next((one for one in received.buttons if one.kind != "web_url"), None)
        with self._lock:
            if button is not None and self._tap_random.random() < _TAPS:
                is_asked = "follow" in button.title.lower()
                follows = is_asked and self._tap_random.random() < _FOLLOWS_WHEN_ASKED
                wait = self._tap_random.uniform(_LEAST_THINKING_SECONDS, _MOST_THINKING_SECONDS)
                timer = threading.Timer(wait, self._tap, (received, button.title, follows))
                timer.daemon = True
                timer.start()

    def _tap(self, received: Received, title: str, follows: bool) -> None:
        if self._meta is None or self._stop.is_set():
            return
        if follows:
            self._meta.follow(received.person_id, received.account_id)
        with suppress(LookupError):  # forgotten in the meantime
            self._meta.tap(received.person_id, title)

    def _run(self, meta: Sandbox) -> None:
        events = self._generate_events()
        next_at = time.monotonic()
        try:
            while not self._stop.wait(_LOOK_SECONDS):
                now = time.monotonic()
                next_at = max(next_at, now - 1.0)  # a pause is not caught up
                while next_at <= now:
                    self._write(meta, next(events))
                    next_at += 1 / self._rate
        except Exception:  # the demo continues without followers
            logger.exception("The simulated followers stopped")

    def _generate_events(self) -> Iterator[SimulatedEvent]:
        # The sandbox sends some webhooks twice, so the plan has no redeliveries.
        plan = Plan(targets=self._targets, events=None, batch=1, redeliveries=0, seed=self._seed)
        for delivery in generate_deliveries(plan):
            for event in delivery.events:
                if event.sim_kind != "comment" or self._may_comment():
                    yield event

    def _may_comment(self) -> bool:
        now = time.monotonic()
        earliest = now - _COMMENT_BURST * _COMMENT_PACE_SECONDS
        self._comments_until = max(self._comments_until, earliest)
        if self._has_others and self._comments_until > now - _COMMENT_PACE_SECONDS:
            return False
        self._comments_until += _COMMENT_PACE_SECONDS
        return True

    def _write(self, meta: Sandbox, event: SimulatedEvent) -> None:
        account_id, person_id = event.account_id, event.user_id
        if self._random.random() < _FOLLOWS_ALREADY:
            meta.follow(person_id, account_id)
        if event.media_id is not None:
            meta.comment(
                account_id,
                person_id,
                event.text,
                event.media_id,
                username=event.username,
                parent_id=event.parent_id,
            )
        else:
            meta.message(account_id, person_id, event.text, story_id=event.story_id)
        self._known.append(person_id)
        if len(self._known) > _REMEMBERED_PEOPLE:
            with meta.use_world() as (world, _):
                world.forget(self._known.popleft())

"""The followers of a demo: they comment, write, answer stories, tap what they get, and follow."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator

from automations.demo.sandbox.sandbox import Sandbox
from automations.demo.sandbox.state import Received
from automations.demo.simulation import Plan, SimulatedEvent, Target, generate_deliveries
from automations.demo.simulation.people import make_random

logger = logging.getLogger("automations.demo")

# As Meta lets an account answer comments: 750 an hour (automations/outbox/rate_limits.py keeps
# below). More of them would wait for hours, and nobody would see how a conversation ends.
_COMMENT_PACE_SECONDS = 6.0
_COMMENT_BURST = 10
_FOLLOWS_ALREADY, _TAPS, _FOLLOWS_WHEN_ASKED = 0.2, 0.85, 0.8
_LEAST_THINKING_SECONDS, _MOST_THINKING_SECONDS = 0.3, 4.0
# Who wrote this many people ago is forgotten: a demo may run for days.
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
        self._meta: Sandbox | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._taps: list[tuple[float, int, Received]] = []
        self._numbers = itertools.count()
        self._known: deque[str] = deque()
        self._random = make_random("followers", seed)
        self._tap_random = make_random("taps", seed)  # of the sandbox's threads
        self._has_others = any(target.kind != "comment" for target in targets)
        self._comments_until = time.monotonic() - _COMMENT_BURST * _COMMENT_PACE_SECONDS
        self._thread = threading.Thread(target=self._run, name="followers", daemon=True)

    def start(self, meta: Sandbox) -> None:
        """Begin, if there is anybody to write to."""
        self._meta = meta
        if self._rate and self._targets:
            self._thread.start()

    def stop(self) -> None:
        """End, and wait for what is being written."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def on_received(self, received: Received) -> None:
        """Somebody received a message; they may tap its button after a while."""
        if not any(button.kind != "web_url" for button in received.buttons):
            return
        with self._lock:
            if self._tap_random.random() < _TAPS:
                wait = self._tap_random.uniform(_LEAST_THINKING_SECONDS, _MOST_THINKING_SECONDS)
                tap = (time.monotonic() + wait, next(self._numbers), received)
                heapq.heappush(self._taps, tap)

    def _run(self) -> None:
        try:
            self._act()
        except Exception:  # the demo goes on without followers, and says so
            logger.exception("The simulated followers stopped")

    def _act(self) -> None:
        events = self._make_events()
        next_at = time.monotonic()
        while not self._stop.wait(_LOOK_SECONDS):
            now = time.monotonic()
            next_at = max(next_at, now - 1.0)  # after a pause nobody hurries
            for received in self._take_due(now):
                self._tap(received)
            while next_at <= now:
                self._write(next(events))
                next_at += 1 / self._rate

    def _make_events(self) -> Iterator[SimulatedEvent]:
        # Meta's doubles are the sandbox's to make.
        plan = Plan(targets=self._targets, events=None, batch=1, redeliveries=0, seed=self._seed)
        for delivery in generate_deliveries(plan):
            for event in delivery.events:
                if event.sim_kind != "comment" or self._may_comment():
                    yield event

    def _may_comment(self) -> bool:
        now = time.monotonic()
        self._comments_until = max(
            self._comments_until, now - _COMMENT_BURST * _COMMENT_PACE_SECONDS
        )
        if self._has_others and self._comments_until > now - _COMMENT_PACE_SECONDS:
            return False
        self._comments_until += _COMMENT_PACE_SECONDS
        return True

    def _write(self, event: SimulatedEvent) -> None:
        meta = self._get_meta()
        if self._random.random() < _FOLLOWS_ALREADY:
            meta.follow(event.user_id, event.account_id)
        if event.sim_kind == "comment":
            meta.comment(
                event.account_id, event.user_id, event.text, event.media_id or "",
                username=event.username, parent_id=event.parent_id,
            )  # fmt: skip
        else:
            meta.message(event.account_id, event.user_id, event.text, story_id=event.story_id)
        self._known.append(event.user_id)
        if len(self._known) > _REMEMBERED_PEOPLE:
            meta.forget(self._known.popleft())

    def _take_due(self, now: float) -> list[Received]:
        with self._lock:
            due = []
            while self._taps and self._taps[0][0] <= now:
                due.append(heapq.heappop(self._taps)[2])
            return due

    def _tap(self, received: Received) -> None:
        """Tap the button; where it says "I follow", most people have done so."""
        meta = self._get_meta()
        button = next(one for one in received.buttons if one.kind != "web_url")
        is_asked = "follow" in button.title.lower()
        if is_asked and self._random.random() < _FOLLOWS_WHEN_ASKED:
            meta.follow(received.person_id, received.account_id)
        try:
            meta.tap(received.person_id, button.title)
        except LookupError:  # forgotten meanwhile
            return

    def _get_meta(self) -> Sandbox:
        if self._meta is None:
            raise RuntimeError("Followers act in the sandbox that start() is given.")
        return self._meta

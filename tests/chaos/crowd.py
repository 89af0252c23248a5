"""The people of a run: they comment, write, follow and tap, each as the seed says."""

import heapq
import itertools
import threading
import time
from collections.abc import Sequence
from random import Random
from typing import Any

from automations.demo.sandbox import Received, Sandbox
from tests.chaos.background import Background

KEYWORD = "link"
# Each text is its step's name, so that what a person received says which step it was.
_OPENING = {"text": "opening_dm", "button": "Yes"}
_MAIN = {"text": "main_dm", "links": [{"title": "Shop", "url": "https://shop.example.com/"}]}
_ALL = {
    "commentReply": {"texts": ["comment_reply"]},
    "openingDm": _OPENING,
    "askFollow": {"text": "ask_follow", "button": "I follow"},
    "mainDm": _MAIN,
}
# What an account answers, each to one kind of event.
AUTOMATIONS: dict[str, dict[str, Any]] = {
    "comment": {"type": "comment_to_dm", **_ALL},
    "story": {"type": "story_reply", "openingDm": _OPENING, "mainDm": _MAIN},
    "message": {"type": "dm_auto_responder", "mainDm": _MAIN},
}
_KINDS = ("comment", "comment", "comment", "story", "message")
_TAPS, _TAPS_TWICE, _FOLLOWS_FIRST = 0.9, 0.05, 0.5
# Some tap before the call that sent the button has even come back.
_MOST_THINKING_SECONDS, _IS_AT_ONCE = 2.0, 0.3
_LOOK_SECONDS = 0.005


class Crowd(Background):
    """People who do `triggers` things, `rate` a second; `on_received` belongs to the sandbox."""

    def __init__(
        self, account_ids: Sequence[str], *, seed: int, rate: float, triggers: int
    ) -> None:
        self.meta: Sandbox
        self.event_ids: set[str] = set()
        self.received_at: list[float] = []
        self.people = 0
        self._account_ids = account_ids
        self._seed = seed
        self._rate = rate
        self._triggers = triggers
        self._lock = threading.Lock()
        self._due: list[tuple[float, int, Received]] = []
        self._numbers = itertools.count()
        super().__init__(self._act)

    @property
    def is_done(self) -> bool:
        """Whether everybody has come, and nobody is about to tap."""
        with self._lock:
            return len(self.event_ids) >= self._triggers and not self._due

    def on_received(self, received: Received) -> None:
        """A person received a message: if it has a button, they may tap it."""
        now = time.monotonic()
        self.received_at.append(now)
        if not any(button.kind != "web_url" for button in received.buttons):
            return
        random = self._make_random(received.person_id, received.text)
        if random.random() > _TAPS:
            return
        wait = 0.0 if random.random() < _IS_AT_ONCE else random.uniform(0, _MOST_THINKING_SECONDS)
        with self._lock:
            heapq.heappush(self._due, (now + wait, next(self._numbers), received))

    def _act(self) -> None:
        while not self.stopping.is_set():
            now = time.monotonic()
            with self._lock:
                is_due = self._due and self._due[0][0] <= now
                received = self._due[0][2] if is_due else None
            if received is not None:
                self._tap(received)
                with self._lock:
                    heapq.heappop(self._due)
            elif len(self.event_ids) < min(self._triggers, self._rate * (now - self.started_at)):
                self._arrive()
            else:
                self.stopping.wait(_LOOK_SECONDS)

    def _arrive(self) -> None:
        self.people += 1
        person_id = f"9{self.people:09}"
        account_id = self._account_ids[self.people % len(self._account_ids)]
        random = self._make_random(person_id, "arrives")
        kind = random.choice(_KINDS)
        if random.random() < _FOLLOWS_FIRST:
            self.meta.follow(person_id, account_id)
        if kind == "comment":
            event_id = self.meta.comment(account_id, person_id, f"the {KEYWORD}, please")
        else:
            story_id = "18000000000000001" if kind == "story" else None
            event_id = self.meta.message(account_id, person_id, KEYWORD, story_id=story_id)
        self.event_ids.add(event_id)

    def _tap(self, received: Received) -> None:
        if received.text == "ask_follow":
            self.meta.follow(received.person_id, received.account_id)
        random = self._make_random(received.person_id, f"taps {received.text}")
        title = next(one.title for one in received.buttons if one.kind != "web_url")
        for _ in range(2 if random.random() < _TAPS_TWICE else 1):
            self.event_ids.add(self.meta.tap(received.person_id, title))

    def _make_random(self, *parts: str) -> Random:
        return Random(":".join(("crowd", str(self._seed), *parts)))

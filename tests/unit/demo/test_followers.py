"""The followers of a demo, and what the sandbox forgets of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from automations.demo.followers import Followers
from automations.demo.sandbox import Button, Received, Sandbox
from automations.demo.simulation import Target

ACCOUNT, PERSON = "17841400000000001", "9001"
COMMENTS = Target(kind="comment", account_id=ACCOUNT, keywords=("link",))
MESSAGES = Target(kind="dm", account_id=ACCOUNT, keywords=("price",))


def wait_for(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_comments_keep_to_what_an_account_can_answer() -> None:
    followers = Followers((COMMENTS, MESSAGES), rate=200, seed=1)
    with Sandbox() as meta:
        followers.start(meta)
        wait_for(lambda: len(meta._world._heard_at) > 40)
        followers.stop()
        assert 5 <= len(meta._world.comments) <= 12


def test_people_tap_what_they_get_and_follow_when_they_are_asked() -> None:
    followers = Followers((MESSAGES,), rate=0.001, seed=1)
    with Sandbox(on_received=followers.on_received) as meta:
        followers.start(meta)
        for number in range(20):
            button = Button("postback", "I follow" if number % 2 else "Yes", "payload")
            received = Received(
                kind="dm", account_id=ACCOUNT, person_id=f"p{number}", message_id=f"m{number}",
                text="t", buttons=(button,), comment_id=None, at=datetime.now(UTC),
            )  # fmt: skip
            meta._world.journal[received.person_id].append(received)
            followers.on_received(received)
        wait_for(lambda: len(meta._world._heard_at) >= 10 and not followers._taps)
        followers.stop()
        follows = {person_id for _, person_id in meta._world.follows}
        assert follows
        assert all(int(person_id[1:]) % 2 for person_id in follows if person_id[0] == "p")


def test_who_is_forgotten_comes_back_under_new_ids() -> None:
    with Sandbox() as meta:
        meta.add_account(ACCOUNT)
        before = meta.comment(ACCOUNT, PERSON, "a")
        with meta._use_world() as (world, at):
            world.reply_privately(ACCOUNT, before, ("hi", ()), at)
        meta.message(ACCOUNT, PERSON, "b")
        meta.follow(PERSON, ACCOUNT)
        meta.forget(PERSON)
        world = meta._world
        assert (world.journal, world.comments, world.follows, world._heard_at) == (
            {},
            {},
            set(),
            {},
        )
        assert meta.comment(ACCOUNT, PERSON, "a") != before

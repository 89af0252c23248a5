"""The fake Meta as a test holds it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Self

from automations.demo.sandbox import webhook_elements
from automations.demo.sandbox.faults import Faults
from automations.demo.sandbox.handler import Answering
from automations.demo.sandbox.limits import Limits
from automations.demo.sandbox.messages import Button
from automations.demo.sandbox.server import HttpServer
from automations.demo.sandbox.state import Comment, Received, World
from automations.demo.sandbox.webhook_elements import Element
from automations.demo.sandbox.webhooks import RETRY_SECONDS, Counts, WebhookSender

DEFAULT_MEDIA_ID = "17900000000000001"


class Sandbox:
    """A fake Meta on 127.0.0.1; `with Sandbox() as meta:` starts and stops it.

    The same `seed` makes the same ids and, by shares, the same faults. `webhook_url` is where its
    signed webhooks go ("" sends none), every `double_every`th element twice. `clock` is for tests
    that jump over a window. `on_received` is called with what a person has just received, before
    the call is answered, and may let them tap.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        port: int = 0,
        webhook_url: str = "",
        app_secret: str = "",
        limits: Limits | None = None,
        clock: Callable[[], datetime] | None = None,
        retry_seconds: Sequence[float] = RETRY_SECONDS,
        double_every: int = 0,
        on_received: Callable[[Received], None] | None = None,
    ) -> None:
        self.faults = Faults(seed)
        self._read_clock = clock or (lambda: datetime.now(UTC))
        self._lock = threading.Lock()
        self._world = World(seed=seed, limits=limits or Limits())
        self._webhooks = WebhookSender(
            url=webhook_url,
            secret=app_secret,
            read_time=lambda: self._read_clock().timestamp(),
            retry_seconds=retry_seconds,
            double_every=double_every,
        )
        self._answering = Answering(
            self._use_world,
            faults=self.faults,
            send_webhook=self._webhooks.send,
            on_received=on_received,
        )
        self._server = HttpServer(self._answering.handle, port=port)
        self.url = f"http://127.0.0.1:{self._server.port}"

    def start(self) -> Self:
        """Answer calls and send webhooks from now on."""
        self._server.start()
        self._webhooks.start()
        return self

    def stop(self) -> None:
        """Close everything; webhooks that were not accepted are lost."""
        self._server.stop()
        self._webhooks.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # What people do

    def comment(
        self,
        account_id: str,
        person_id: str,
        text: str,
        media_id: str = DEFAULT_MEDIA_ID,
        *,
        username: str = "",
        parent_id: str | None = None,
        is_live: bool = False,
        has_person: bool = True,
    ) -> str:
        """Comment on a post of the account and return the comment's id.

        `has_person` False: the webhook does not say who it was.
        """
        with self._use_world() as (world, at):
            comment = Comment(
                id=world.make_id("comment", account_id, person_id),
                account_id=account_id,
                person_id=person_id,
                media_id=media_id,
                is_live=is_live,
                at=at,
            )
            world.comments[comment.id] = comment
        self._webhooks.send(
            webhook_elements.build_comment(
                comment,
                text,
                username=username or f"user.{person_id}",
                parent_id=parent_id,
                has_person=has_person,
            )
        )
        return comment.id

    def message(
        self, account_id: str, person_id: str, text: str, *, story_id: str | None = None
    ) -> str:
        """Write to the account, as a reply to its story or not; return the message's id."""
        message: dict[str, Any] = {"text": text}
        if story_id is not None:
            url = f"https://lookaside.fbsbx.com/ig_messaging_cdn/?asset_id={story_id}"
            message["reply_to"] = {"story": {"id": story_id, "url": url}}
        with self._use_world() as (world, at):
            message["mid"] = world.make_id("mid", account_id, person_id)
            world.hear(account_id, person_id, at)
        self._webhooks.send(webhook_elements.build_message(account_id, person_id, message, at))
        return str(message["mid"])

    def tap(self, person_id: str, button: str | None = None) -> str:
        """Tap the newest button that the person received, or the newest of that title.

        Returns the id of the tap. Raises LookupError when there is none.
        """
        with self._use_world() as (world, at):
            received, tapped = _find_button(world.journal.get(person_id, []), button)
            mid = world.make_id("mid", received.account_id, person_id)
            world.hear(received.account_id, person_id, at)
        self._webhooks.send(
            webhook_elements.build_tap(received.account_id, person_id, tapped, mid, at)
        )
        return mid

    def follow(self, person_id: str, account_id: str) -> None:
        """Let the person follow the account."""
        with self._use_world() as (world, _):
            world.follows.add((account_id, person_id))

    def forget(self, person_id: str) -> None:
        """Let go of what is known of the person, who may come back like somebody new."""
        with self._use_world() as (world, _):
            world.forget(person_id)

    # What the account's owner and Meta do

    def add_account(self, account_id: str, token: str | None = None) -> str:
        """Make an account, or give it another token; return the token."""
        token = token or f"IGAAsandbox{account_id}"
        with self._use_world() as (world, _):
            world.add_account(account_id, token)
        return token

    def expire_token(self, account_id: str) -> None:
        """Let the account's token die (error 190), until `add_account` gives it another."""
        with self._use_world() as (world, _):
            world.expire_token(account_id)

    def restrict(self, account_id: str, *, is_restricted: bool = True) -> None:
        """Restrict the account (error 10/1893063), or lift that."""
        with self._use_world() as (world, _):
            world.accounts[account_id].is_restricted = is_restricted

    def block(self, person_id: str) -> None:
        """Let the person not be reached any more (error 551)."""
        with self._use_world() as (world, _):
            world.blocked.add(person_id)

    def take_over(self, account_id: str, person_id: str) -> None:
        """Let another app own the conversation (error 10/2018300)."""
        with self._use_world() as (world, _):
            world.taken_over.add((account_id, person_id))

    def end_live(self, media_id: str) -> None:
        """End a broadcast: its comments take no private reply any more."""
        with self._use_world() as (world, _):
            world.ended_media.add(media_id)

    def send_webhook(self, element: Element) -> None:
        """Send an element of a test's own."""
        self._webhooks.send(element)

    def set_webhook(self, url: str, app_secret: str) -> None:
        """Send webhooks there from now on."""
        self._webhooks.set_target(url, app_secret)

    # What can be asked

    def journal(self, person_id: str) -> list[Received]:
        """Return what the person received, oldest first."""
        with self._use_world() as (world, _):
            return list(world.journal.get(person_id, ()))

    def list_received(self) -> list[Received]:
        """Return what everybody received."""
        with self._use_world() as (world, _):
            return [one for journal in world.journal.values() for one in journal]

    def find_peaks(self, account_id: str) -> dict[str, int]:
        """Return the most private replies in an hour, and messages and reads in a second."""
        with self._use_world() as (world, _):
            book = world.accounts[account_id]
            return {
                "private_replies": book.private_replies.peak,
                "messages": book.messages.peak,
                "reads": book.reads.peak,
            }

    @property
    def answers(self) -> Counter[tuple[str, int]]:
        """Return answers by place and code: ("messages", 0) were accepted, 613 refused."""
        with self._lock:
            return self._answering.answers.copy()

    @property
    def webhook_counts(self) -> Counts:
        """Deliveries that were accepted, tried again, and given up."""
        return self._webhooks.counts

    def wait_for_webhooks(self, seconds: float = 10.0) -> bool:
        """Wait until every webhook was accepted or given up; return whether it was in time."""
        return self._webhooks.wait(seconds)

    @contextmanager
    def _use_world(self) -> Iterator[tuple[World, datetime]]:
        with self._lock:
            yield self._world, self._read_clock()


def _find_button(journal: Sequence[Received], title: str | None) -> tuple[Received, Button]:
    for received in reversed(journal):
        for button in received.buttons:
            if button.kind != "web_url" and title in (None, button.title):
                return received, button
    raise LookupError(f"There is no button {title or ''} to tap.")

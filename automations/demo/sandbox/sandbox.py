"""The stand-in for Instagram as a test or a demo uses it."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import Enum
from typing import Self

from automations.demo.sandbox import graph_api
from automations.demo.sandbox.http_server import Answer, HttpServer, Request
from automations.demo.sandbox.state import Button, Comment, Received, Refused, World
from automations.demo.sandbox.webhooks import RETRY_SECONDS, WebhookSender
from automations.demo.simulation import bodies
from automations.demo.simulation.personas import make_random

DEFAULT_MEDIA_ID = "17900000000000001"


class Fault(Enum):
    ERROR_500 = "500"  # answered 500, not carried out
    LOST = "lost"  # carried out, and the connection closed without an answer
    RESET = "reset"  # not carried out, and the connection closed without an answer
    SLOW = "slow"  # carried out, answered late
    TOKEN_DEAD = "190"  # noqa: S105 - an error code
    RATE = "613"


class Faults:
    """Chooses the fault of a call, by the seed and the call, whatever the order of calls."""

    def __init__(self, seed: int) -> None:
        self.slow_seconds = 1.0
        self.latency_seconds = 0.0  # of every call, half of it before it is carried out
        self.made: Counter[Fault] = Counter()
        self._seed = seed
        self._lock = threading.Lock()
        # A fault, and which calls it is for: where, account.
        self._script: list[tuple[Fault, str | None, str | None]] = []
        self._shares: dict[Fault | None, float] = {}
        self._attempts: Counter[str] = Counter()

    def script(
        self, fault: Fault | str, *, where: str | None = None, account_id: str | None = None
    ) -> None:
        """Make the next call fail; `where` is messages, replies or profile."""
        with self._lock:
            self._script.append((Fault(fault), where, account_id))

    def set_shares(self, shares: Mapping[str, float]) -> None:
        """Make these shares of all calls fail from now on: {"lost": 0.01}."""
        with self._lock:
            self._shares = {Fault(fault): share for fault, share in shares.items()}
            self._shares[None] = 1 - sum(shares.values())

    def choose(self, key: str, *, where: str, account_id: str) -> Fault | None:
        """Return the fault of a call, if any; `key` is the same for each of its attempts."""
        with self._lock:
            fault = self._choose_scripted(where, account_id) or self._choose_share(key)
            if fault is not None:
                self.made[fault] += 1
            return fault

    def _choose_scripted(self, where: str, account_id: str) -> Fault | None:
        for line in self._script:
            if line[1] in (None, where) and line[2] in (None, account_id):
                self._script.remove(line)
                return line[0]
        return None

    def _choose_share(self, key: str) -> Fault | None:
        if not self._shares:
            return None
        self._attempts[key] += 1
        rng = make_random(self._seed, key, self._attempts[key])
        return rng.choices(list(self._shares), list(self._shares.values()))[0]


# Which refusal a fault looks like; the call is not carried out.
_REFUSALS = {Fault.ERROR_500: "server", Fault.TOKEN_DEAD: "bad_token", Fault.RATE: "rate"}


class Sandbox:
    """A stand-in for Instagram on 127.0.0.1; `with Sandbox() as meta:` starts and stops it.

    The same `seed` makes the same ids and, by shares, the same faults. `webhook_url` is where its
    signed webhooks go ("" sends none), every `double_every`th element twice. `most` changes how
    many calls an account has, by kind: private_reply, dm, profile. `clock` is for tests that jump
    over a window. `on_received` is called with what a person has just received, before the call
    is answered, and may let them tap.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        webhook_url: str = "",
        app_secret: str = "",
        most: Mapping[str, int] = {},
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        retry_seconds: Sequence[float] = RETRY_SECONDS,
        double_every: int = 0,
        on_received: Callable[[Received], object] = lambda _: None,
    ) -> None:
        self.faults = Faults(seed)
        self._read_clock = clock
        self._lock = threading.Lock()
        self._answers: Counter[tuple[str, int]] = Counter()
        self._world = World(seed=seed, most=most)
        self._on_received = on_received
        self._webhooks = WebhookSender(
            webhook_url,
            app_secret,
            read_clock=clock,
            retry_seconds=retry_seconds,
            double_every=double_every,
        )
        self.webhook_counts = self._webhooks.counts
        self._server = HttpServer(self.handle)
        self.url = self._server.url

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Close everything; webhooks that were not accepted are lost."""
        self._server.__exit__()
        self._webhooks.stop()

    @contextmanager
    def use_world(self) -> Iterator[tuple[World, datetime]]:
        """Give the state, locked, and the time."""
        with self._lock:
            yield self._world, self._read_clock()

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

        Without `has_person` the webhook does not say who it was.
        """
        with self.use_world() as (world, at):
            comment_id = world.make_id("comment", account_id, person_id)
            world.comments[comment_id] = Comment(account_id, person_id, media_id, is_live, at)
        element = bodies.build_comment(
            account_id,
            comment_id,
            text,
            media_id=media_id,
            person=(person_id, username or f"user.{person_id}") if has_person else None,
            parent_id=parent_id,
            is_live=is_live,
        )
        self._webhooks.send(element)
        return comment_id

    def message(
        self, account_id: str, person_id: str, text: str, *, story_id: str | None = None
    ) -> str:
        return self._write(account_id, person_id, bodies.build_text(text, story_id=story_id))

    def tap(self, person_id: str, title: str | None = None) -> str:
        """Tap the newest button that the person received, or the newest of that title.

        Returns the id of the tap. Raises LookupError when there is none.
        """
        account_id, button = _find_button(self.journal(person_id), title)
        payload = {"payload": button.value}
        if button.kind == "quick_reply":
            content: bodies.Parts = {"message": {"text": button.title, "quick_reply": payload}}
        else:
            content = {"postback": {"title": button.title, **payload}}
        return self._write(account_id, person_id, content)

    def follow(self, person_id: str, account_id: str) -> None:
        with self.use_world() as (world, _):
            world.follows.add((account_id, person_id))

    def _write(self, account_id: str, person_id: str, content: bodies.Parts) -> str:
        with self.use_world() as (world, at):
            world.heard_at[account_id, person_id] = at
            mid = world.make_id("mid", account_id, person_id)
        at_ms = int(at.timestamp() * 1000)
        element = bodies.build_messaging(account_id, person_id, mid, content, at_ms=at_ms)
        self._webhooks.send(element)
        return mid

    # What the account's owner and Meta do

    def add_account(self, account_id: str, token: str | None = None) -> str:
        token = token or f"IGAAsandbox{account_id}"
        with self.use_world() as (world, _):
            world.add_account(account_id, token)
        return token

    def set_webhook(self, url: str, app_secret: str) -> None:
        self._webhooks.set_target(url, app_secret)

    def handle(self, request: Request) -> Answer | None:
        """Return the answer to a call of the Graph API; None closes the connection without one."""
        token, where, account_id, received = "", "?", None, None
        status, code, headers = 200, 0, {}
        try:
            token = graph_api.read_token(request)
            with self.use_world() as (world, _):
                account_id = world.find_account_id(token)
            where, object_id, content = graph_api.read_call(request)
            # The same for every attempt of a call.
            key = f"{request.target}:{request.body!r}"
            fault = self.faults.choose(key, where=where, account_id=account_id)
            if fault is Fault.RESET:
                return None
            if fault in _REFUSALS:
                raise Refused(_REFUSALS[fault])
            if fault is Fault.SLOW:
                time.sleep(self.faults.slow_seconds)
            time.sleep(self.faults.latency_seconds / 2)
            execute = graph_api.OPERATIONS[where]
            with self.use_world() as (world, at):
                body, received = execute(world, account_id, at, object_id, content)
        except Refused as refused:
            status, code, fault = refused.status, refused.code, None
            body = refused.build_body(token=token)
        with self.use_world() as (world, at):
            self._answers[where, code] += 1
            if account_id is not None:
                headers = graph_api.build_headers(world, account_id, at)
        if received is not None:
            # Before the answer: Meta promises no order, and this one is the harder.
            self._deliver(received)
        time.sleep(self.faults.latency_seconds / 2)
        return None if fault is Fault.LOST else Answer(status, body, headers)

    def _deliver(self, received: Received) -> None:
        """Send the echo of what a person received, and let them react."""
        account_id, new_id, text = received.account_id, received.message_id, received.text
        if received.kind == "public_reply":
            person, parent_id = (account_id, "the.account"), received.comment_id
            echo = bodies.build_comment(
                account_id, new_id, text, media_id=None, person=person, parent_id=parent_id
            )
        else:
            content: bodies.Parts = {"message": {"text": text, "is_echo": True}}
            at_ms = int(received.at.timestamp() * 1000)
            echo = bodies.build_messaging(
                account_id, received.person_id, new_id, content, at_ms=at_ms, is_echo=True
            )
        self._webhooks.send(echo)
        self._on_received(received)

    # What can be asked

    def journal(self, person_id: str) -> list[Received]:
        with self.use_world() as (world, _):
            return list(world.journal.get(person_id, ()))

    def list_received(self) -> list[Received]:
        with self.use_world() as (world, _):
            return [one for journal in world.journal.values() for one in journal]

    @property
    def answers(self) -> Counter[tuple[str, int]]:
        """Answers by place and code: ("messages", 0) were accepted, 613 refused."""
        with self._lock:
            return self._answers.copy()

    def wait_for_webhooks(self, seconds: float = 10.0) -> bool:
        return self._webhooks.wait(seconds)


def _find_button(journal: Sequence[Received], title: str | None) -> tuple[str, Button]:
    for received in reversed(journal):
        for button in received.buttons:
            if button.kind != "web_url" and title in (None, button.title):
                return received.account_id, button
    raise LookupError(f"There is no button {title or ''} to tap.")

"""The fake Meta keeps Instagram's rules, and tells of what people do as Meta does."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from automations.demo.sandbox import Sandbox
from automations.demo.sandbox.http_server import Answer
from automations.instagram.graph import GraphClient
from automations.instagram.graph_errors import ErrorClass, GraphError
from automations.instagram.messages import build_message
from automations.instagram.payloads import parse_delivery
from automations.instagram.signature import verify_signature
from tests.integration.instagram.test_graph import Stub

ACCOUNT, PERSON = "17841400000000001", "5550001"
TOKEN = "IGAA-token"
APP_SECRET = "app-secret"
HELLO = {"text": "Hello"}
Call = Callable[..., object]
DEAD = (ErrorClass.TOKEN_DEAD, 190, None)
RESTRICTED = (ErrorClass.RESTRICTED, 10, 1893063)
CONFLICT = (ErrorClass.CONFLICT, 10, 2018300)

LINK = {"type": "web_url", "url": "https://a.example", "title": "a"}
POSTBACK = {"type": "postback", "title": "a", "payload": "p"}
QUICK_REPLY = {"content_type": "text", "title": "a", "payload": "p"}


def build_template(*buttons: dict[str, str], text: str = "x") -> dict[str, Any]:
    payload = {"template_type": "button", "text": text, "buttons": list(buttons)}
    return {"type": "template", "payload": payload}


class Clock:
    """A clock that a test moves on."""

    now = datetime(2026, 11, 23, 10, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meta(clock: Clock) -> Iterator[Sandbox]:
    with Sandbox(seed=1, clock=clock, most={"private_reply": 5}) as meta:
        meta.add_account(ACCOUNT, TOKEN)
        yield meta


@pytest.fixture
def client(meta: Sandbox) -> Iterator[GraphClient]:
    with GraphClient(meta.url, timeout_seconds=5) as client:
        yield client


@pytest.fixture
def send(client: GraphClient) -> Call:
    return lambda message=HELLO: client.send_message(ACCOUNT, PERSON, message, token=TOKEN)


@pytest.fixture
def reply(client: GraphClient) -> Call:
    return lambda comment_id, message=HELLO: client.reply_privately(
        ACCOUNT, comment_id, message, token=TOKEN
    )


def catch(call: Call, *arguments: object) -> tuple[ErrorClass, int | None, int | None]:
    with pytest.raises(GraphError) as caught:
        call(*arguments)
    return (caught.value.classification, caught.value.code, caught.value.subcode)


class TestRules:
    def test_a_comment_has_one_private_reply(self, meta: Sandbox, reply: Call) -> None:
        comment_id = meta.comment(ACCOUNT, PERSON, "link")
        reply(comment_id)
        assert catch(reply, comment_id) == (ErrorClass.ALREADY_REPLIED, 100, 2534025)
        assert len(meta.journal(PERSON)) == 1

    def test_a_private_reply_has_seven_days(self, meta: Sandbox, reply: Call, clock: Clock) -> None:
        first, second = (meta.comment(ACCOUNT, PERSON, "link") for _ in range(2))
        clock.move(days=7)
        reply(first)
        clock.move(days=0.001)
        assert catch(reply, second)[0] is ErrorClass.OUTSIDE_WINDOW

    def test_a_live_comment_is_answered_while_live(self, meta: Sandbox, reply: Call) -> None:
        first, second = (
            meta.comment(ACCOUNT, PERSON, "link", "live1", is_live=True) for _ in range(2)
        )
        reply(first)
        with meta.use_world() as (world, _):
            world.ended_media.add("live1")
        assert catch(reply, second)[0] is ErrorClass.OUTSIDE_WINDOW

    def test_a_comment_opens_no_window_a_message_and_a_tap_do(
        self, meta: Sandbox, send: Call, reply: Call, clock: Clock
    ) -> None:
        comment_id = meta.comment(ACCOUNT, PERSON, "link")
        assert catch(send) == (ErrorClass.OUTSIDE_WINDOW, 10, 2534022)
        reply(comment_id, build_message({"text": "Want it?"}, payload="run1.x"))
        assert catch(send)[0] is ErrorClass.OUTSIDE_WINDOW
        meta.tap(PERSON, "Continue")
        send()
        clock.move(hours=24)
        send()
        clock.move(seconds=1)
        assert catch(send)[0] is ErrorClass.OUTSIDE_WINDOW
        meta.message(ACCOUNT, PERSON, "hi")
        send()

    def test_a_look_at_a_profile_needs_consent(
        self, meta: Sandbox, client: GraphClient, clock: Clock
    ) -> None:
        meta.comment(ACCOUNT, PERSON, "link")
        assert client.is_following(PERSON, token=TOKEN) is None
        assert meta.answers["profile", 230] == 1
        meta.message(ACCOUNT, PERSON, "hi")
        assert client.is_following(PERSON, token=TOKEN) is False
        meta.follow(PERSON, ACCOUNT)
        clock.move(seconds=1)  # two reads a second
        assert client.is_following(PERSON, token=TOKEN) is True

    def test_limits_are_counted_in_a_rolling_hour(
        self, meta: Sandbox, client: GraphClient, reply: Call, clock: Clock
    ) -> None:
        for _ in range(5):
            reply(meta.comment(ACCOUNT, PERSON, "link"))
            clock.move(minutes=10)
        assert client.usage(ACCOUNT) == 1.0
        with pytest.raises(GraphError) as caught:
            reply(meta.comment(ACCOUNT, PERSON, "link"))
        assert (caught.value.code, caught.value.retry_after) == (613, 600.0)
        clock.move(minutes=10)
        reply(meta.comment(ACCOUNT, PERSON, "link"))
        with meta.use_world() as (world, _):
            window = world.accounts[ACCOUNT].calls["private_reply"]
            assert window.count(clock.now.timestamp()) == 5

    def test_an_account_has_a_hundred_messages_a_second(
        self, meta: Sandbox, send: Call, clock: Clock
    ) -> None:
        meta.message(ACCOUNT, PERSON, "hi")
        for _ in range(100):
            send()
        assert catch(send)[0] is ErrorClass.RATE
        clock.move(seconds=1)
        send()

    @pytest.mark.parametrize(
        ("trouble", "expected"),
        [
            (lambda world: vars(world.accounts[ACCOUNT]).update(token=None), DEAD),
            (lambda world: world.add_account(ACCOUNT, "new"), DEAD),
            (lambda world: vars(world.accounts[ACCOUNT]).update(is_restricted=True), RESTRICTED),
            (lambda world: world.blocked.add(PERSON), (ErrorClass.PERMANENT, 551, None)),
            (lambda world: world.taken_over.add((ACCOUNT, PERSON)), CONFLICT),
        ],
    )
    def test_troubles(
        self, meta: Sandbox, send: Call, trouble: Call, expected: tuple[Any, ...]
    ) -> None:
        meta.message(ACCOUNT, PERSON, "hi")
        with meta.use_world() as (world, _):
            trouble(world)
        assert catch(send) == expected
        assert meta.journal(PERSON) == []

    def test_an_account_sees_only_its_own(self, meta: Sandbox, client: GraphClient) -> None:
        other = meta.add_account("2")
        comment_id = meta.comment(ACCOUNT, PERSON, "link")
        for call in (
            lambda: client.reply_privately("2", comment_id, HELLO, token=other),
            lambda: client.reply_privately(ACCOUNT, comment_id, HELLO, token=other),
            lambda: client.reply_publicly(comment_id, "hi", token=other),
        ):
            assert catch(call) == (ErrorClass.PERMANENT, 100, 33)

    @pytest.mark.parametrize(
        "message",
        [
            {},
            {"text": ""},
            {"text": "ä" * 501},
            {"text": "x", "attachment": build_template(LINK)},
            {"text": "x", "quick_replies": [QUICK_REPLY | {"title": "x" * 21}]},
            {"text": "x", "quick_replies": [QUICK_REPLY] * 14},
            {"attachment": {"type": "image", "payload": {}}},
            {"attachment": build_template()},
            {"attachment": build_template(LINK, text="x" * 641)},
            {"attachment": build_template(*[LINK] * 4)},
            {"attachment": build_template(LINK | {"url": "mailto:a"})},
            {"attachment": build_template(POSTBACK | {"payload": "p" * 1001})},
        ],
    )
    def test_a_message_past_its_lengths_is_refused(
        self, meta: Sandbox, send: Call, message: dict[str, Any]
    ) -> None:
        meta.message(ACCOUNT, PERSON, "hi")
        assert catch(send, message)[:2] == (ErrorClass.PERMANENT, 100)

    def test_a_tap_needs_a_button(self, meta: Sandbox) -> None:
        meta.message(ACCOUNT, PERSON, "hi")
        with pytest.raises(LookupError):
            meta.tap(PERSON)


def test_what_people_do_arrives_signed_and_readable() -> None:
    with (
        Stub(Answer(200, {})) as app,
        Sandbox(webhook_url=f"{app.url}/hook", app_secret=APP_SECRET) as meta,
        GraphClient(meta.url) as client,
    ):
        meta.add_account(ACCOUNT, TOKEN)
        comment_id = meta.comment(ACCOUNT, PERSON, "Größe? 💛", "media1", parent_id="9")
        unknown = meta.comment(ACCOUNT, "7", "link", is_live=True, has_person=False)
        mid = meta.message(ACCOUNT, PERSON, "yes", story_id="story1")
        opening = build_message({"text": "Want it?", "button": "Yes"}, payload="run1.x")
        client.reply_privately(ACCOUNT, comment_id, opening, token=TOKEN)
        client.reply_publicly(comment_id, "Sent!", token=TOKEN)
        tap_mid = meta.tap(PERSON)
        long = build_message({"text": "x" * 700, "button": "Go"}, payload="run1.y")
        client.send_message(ACCOUNT, PERSON, long, token=TOKEN)
        meta.tap(PERSON, "Go")
        assert meta.wait_for_webhooks()
    for one in app.requests:
        verify_signature(one.body, one.headers.get("x-hub-signature-256"), [APP_SECRET])
    deliveries = [parse_delivery(one.body) for one in app.requests]
    assert [one for delivery in deliveries for one in delivery.malformed] == []
    events = {one.event_id: one for delivery in deliveries for one in delivery.events}
    assert events[comment_id].text == "Größe? 💛"
    assert events[comment_id].media_ids == ("media1",)
    assert events[comment_id].parent_id == "9"
    assert (events[unknown].person_unknown, events[unknown].is_live) == (True, True)
    assert (events[mid].type, events[mid].story_id) == ("story_reply", "story1")
    everything = [
        element
        for one in app.requests
        for entry in json.loads(one.body)["entry"]
        for element in entry.get("messaging", []) + entry.get("changes", [])
    ]
    echoes = [one for one in everything if one.get("message", {}).get("is_echo")]
    assert [one["message"]["mid"] for one in echoes] == [
        one.message_id for one in meta.journal(PERSON) if one.kind != "public_reply"
    ]
    assert {(one["sender"]["id"], one["recipient"]["id"]) for one in echoes} == {(ACCOUNT, PERSON)}
    [postback] = [one["postback"] for one in everything if "postback" in one]
    assert postback == {"mid": tap_mid, "title": "Yes", "payload": "run1.x"}
    messages = [one.get("message", {}) for one in everything]
    assert {"payload": "run1.y"} in [one.get("quick_reply") for one in messages]
    assert [one for one in everything if one.get("value", {}).get("text") == "Sent!"]

"""The stand-in's Graph API: reads a call, executes it, or fails on demand."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
import orjson
from msgspec import Meta, Struct

from automations.demo.sandbox.faults import Fault, Faults
from automations.demo.sandbox.http_server import Answer, Request
from automations.demo.sandbox.refusals import Refused
from automations.demo.sandbox.state import Button, Content, Received, World
from automations.instagram import limits

# A version in front is allowed, as in /v23.0/me.
_PATH = re.compile(r"^(?:/v\d+\.\d+)?/(?P<id>[^/]+)(?:/(?P<edge>messages|replies))?$")
# Which refusal a fault looks like; the call is not carried out.
_REFUSALS = {Fault.ERROR_500: "server", Fault.TOKEN_DEAD: "bad_token", Fault.RATE: "rate"}

# Body of the answer, and what a person received.
_Result = tuple[dict[str, Any], Received | None]

_Text = Annotated[str, Meta(pattern=r"\S")]
_Title = Annotated[_Text, Meta(max_length=limits.TITLE_LENGTH)]
_Payload = Annotated[_Text, Meta(max_length=limits.PAYLOAD_LENGTH)]


class _Postback(Struct, tag_field="type", tag="postback"):
    title: _Title
    value: _Payload = msgspec.field(name="payload")


class _WebUrl(Struct, tag_field="type", tag="web_url"):
    title: _Title
    value: Annotated[str, Meta(pattern="^https?://")] = msgspec.field(name="url")


class _Template(Struct):
    template_type: Literal["button"]
    text: Annotated[_Text, Meta(max_length=limits.TEMPLATE_TEXT_LENGTH)]
    buttons: Annotated[
        list[_Postback | _WebUrl], Meta(min_length=1, max_length=limits.MOST_BUTTONS)
    ]


class _Attachment(Struct):
    type: Literal["template"]
    payload: _Template


class _QuickReply(Struct):
    content_type: Literal["text"]
    title: _Title
    payload: _Payload


class _Message(Struct):
    text: _Text | None = None
    attachment: _Attachment | None = None
    quick_replies: Annotated[list[_QuickReply], Meta(max_length=limits.MOST_QUICK_REPLIES)] = []


class GraphApi:
    """Answers calls. `use_world` gives the world, locked, and the time."""

    def __init__(
        self,
        use_world: Callable[[], AbstractContextManager[tuple[World, datetime]]],
        *,
        faults: Faults,
        on_received: Callable[[Received], None],
    ) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        self._use_world = use_world
        self._faults = faults
        self._on_received = on_received

    def handle(self, request: Request) -> Answer | None:
        """Return the answer to a request; None closes the connection without one."""
        token, where, account_id, received = "", "?", None, None
        status, code = 200, 0
        try:
            token = _read_token(request)
            with self._use_world() as (world, _):
                account_id = world.find_account_id(token)
            where, object_id, content = _read_call(request)
            # The same for every attempt of a call.
            key = f"{request.target}:{request.body!r}"
            fault = self._faults.choose(key, where=where, account_id=account_id)
            if fault is Fault.RESET:
                return None
            if fault in _REFUSALS:
                raise Refused(_REFUSALS[fault])
            if fault is Fault.SLOW:
                time.sleep(self._faults.slow_seconds)
            time.sleep(self._faults.latency_seconds / 2)
            with self._use_world() as (world, at):
                body, received = _OPERATIONS[where](world, account_id, at, object_id, content)
        except Refused as refused:
            status, code, fault = refused.status, refused.code, None
            body = refused.build_body(token=token)
        with self._use_world() as (world, at):
            self.answers[where, code] += 1
            headers = _build_headers(world, account_id, at)
        if received is not None:
            # Before the answer: Meta promises no order, and this one is the harder.
            self._on_received(received)
        time.sleep(self._faults.latency_seconds / 2)
        return None if fault is Fault.LOST else Answer(status, body, headers)


def _build_headers(world: World, account_id: str | None, at: datetime) -> dict[str, str]:
    if account_id is None:
        return {}
    window = world.accounts[account_id].private_replies
    seconds = at.timestamp()
    usage = {
        "type": "instagram",
        "call_count": 100 * window.count(seconds) // max(1, window.most),
        "total_cputime": 1,
        "total_time": 1,
        "estimated_time_to_regain_access": int(-(-window.find_wait(seconds) // 60)),
    }
    return {"X-Business-Use-Case-Usage": orjson.dumps({account_id: [usage]}).decode()}


def _read_token(request: Request) -> str:
    """Return the token of the header. Raises Refused, also for one in the URL."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind != "Bearer" or "access_token" in request.target:
        raise Refused("bad_token")
    return token


def _read_call(request: Request) -> tuple[str, str, dict[str, Any]]:
    """Return the operation, the id of its object, and its parameters. Raises Refused."""
    parts = urlsplit(request.target)
    match = _PATH.match(parts.path)
    if match is None:
        raise Refused("no_object")
    if (request.method == "POST") != (match["edge"] is not None):
        raise Refused("bad_parameter", "method")
    object_id = unquote(match["id"])
    if request.method == "GET":
        return "profile", object_id, parse_qs(parts.query)
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise Refused("bad_parameter", "body")
    return match["edge"], object_id, body


def read_message(message: Any) -> Content:
    """Return the text and the buttons of a message. Raises Refused."""
    try:
        parts = msgspec.convert(message, _Message)
    except msgspec.ValidationError as error:
        raise Refused("bad_parameter", str(error)) from error
    if (parts.text is None) == (parts.attachment is None):
        raise Refused("bad_parameter", "message[text or attachment]")
    if parts.attachment is not None:
        template = parts.attachment.payload
        return template.text, tuple(
            Button(str(one.__struct_config__.tag), one.title, one.value) for one in template.buttons
        )
    text = parts.text or ""
    if len(text.encode()) > limits.MESSAGE_BYTES:
        raise Refused("bad_parameter", "message[text] length")
    replies = (Button("quick_reply", one.title, one.payload) for one in parts.quick_replies)
    return text, tuple(replies)


def _send_message(
    world: World, account_id: str, at: datetime, object_id: str, body: dict[str, Any]
) -> _Result:
    recipient = body.get("recipient")
    if not isinstance(recipient, dict):
        raise Refused("bad_parameter", "recipient")
    content = read_message(body.get("message"))
    comment_id, person_id = recipient.get("comment_id"), recipient.get("id")
    if isinstance(comment_id, str) == isinstance(person_id, str):
        raise Refused("bad_parameter", "recipient[id or comment_id]")
    if object_id not in (account_id, "me"):
        raise Refused("no_object")
    if isinstance(comment_id, str):
        received = world.reply_privately(account_id, comment_id, content, at)
    else:
        received = world.send_message(account_id, str(person_id), content, at)
    return {"recipient_id": received.person_id, "message_id": received.message_id}, received


def _reply_publicly(
    world: World, account_id: str, at: datetime, object_id: str, body: dict[str, Any]
) -> _Result:
    text = body.get("message")
    if not isinstance(text, str) or not text.strip():
        raise Refused("bad_parameter", "message")
    received = world.reply_publicly(account_id, object_id, text, at)
    return {"id": received.message_id}, received


def _read_profile(
    world: World, account_id: str, at: datetime, object_id: str, query: dict[str, Any]
) -> _Result:
    if query.get("fields") != ["is_user_follow_business"]:
        raise Refused("bad_parameter", "fields")
    is_following = world.is_following(account_id, object_id, at)
    return {"is_user_follow_business": is_following, "id": object_id}, None


_OPERATIONS = {"messages": _send_message, "replies": _reply_publicly, "profile": _read_profile}

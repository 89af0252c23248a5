"""The stand-in's Graph API: how a call is read, what it does, and what it answers."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
import orjson
from msgspec import Meta, Struct

from automations.demo.sandbox.http_server import Request
from automations.demo.sandbox.state import Button, Content, Received, Refused, World
from automations.instagram import limits

# A version in front is allowed, as in /v23.0/me.
_PATH = re.compile(r"^(?:/v\d+\.\d+)?/(?P<id>[^/]+)(?:/(?P<edge>messages|replies))?$")

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


class _Recipient(Struct):
    id: str | None = None
    comment_id: str | None = None


def read_token(request: Request) -> str:
    """Return the token of the header. Raises Refused, also for one in the URL."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind != "Bearer" or "access_token" in request.target:
        raise Refused("bad_token")
    return token


def read_call(request: Request) -> tuple[str, str, dict[str, Any]]:
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
    except orjson.JSONDecodeError as error:
        raise Refused("bad_parameter", "body") from error
    return match["edge"], object_id, _read(body, dict)


def read_message(message: Any) -> Content:
    """Return the text and the buttons of a message. Raises Refused."""
    parts = _read(message, _Message)
    if (parts.text is None) == (parts.attachment is None):
        raise Refused("bad_parameter", "message[text or attachment]")
    if parts.attachment is not None:
        template = parts.attachment.payload
        return template.text, tuple(
            Button(str(one.__struct_config__.tag), one.title, one.value) for one in template.buttons
        )
    if len(parts.text.encode()) > limits.MESSAGE_BYTES:
        raise Refused("bad_parameter", "message[text] length")
    replies = (Button("quick_reply", one.title, one.payload) for one in parts.quick_replies)
    return parts.text, tuple(replies)


def _read(content: Any, type_: Any) -> Any:
    try:
        return msgspec.convert(content, type_)
    except msgspec.ValidationError as error:
        raise Refused("bad_parameter", str(error)) from error


def _send_message(
    world: World, account_id: str, at: datetime, object_id: str, body: dict[str, Any]
) -> _Result:
    recipient = _read(body.get("recipient"), _Recipient)
    content = read_message(body.get("message"))
    if (recipient.comment_id is None) == (recipient.id is None):
        raise Refused("bad_parameter", "recipient[id or comment_id]")
    if object_id not in (account_id, "me"):
        raise Refused("no_object")
    if recipient.comment_id is not None:
        received = world.reply_privately(account_id, recipient.comment_id, content, at)
    else:
        received = world.send_message(account_id, recipient.id, content, at)
    return {"recipient_id": received.person_id, "message_id": received.message_id}, received


def _reply_publicly(
    world: World, account_id: str, at: datetime, object_id: str, body: dict[str, Any]
) -> _Result:
    text = _read(body.get("message"), _Text)
    received = world.reply_publicly(account_id, object_id, text, at)
    return {"id": received.message_id}, received


def _read_profile(
    world: World, account_id: str, at: datetime, object_id: str, query: dict[str, Any]
) -> _Result:
    if query.get("fields") != ["is_user_follow_business"]:
        raise Refused("bad_parameter", "fields")
    is_following = world.is_following(account_id, object_id, at)
    return {"is_user_follow_business": is_following, "id": object_id}, None


OPERATIONS = {"messages": _send_message, "replies": _reply_publicly, "profile": _read_profile}


def build_headers(world: World, account_id: str, at: datetime) -> dict[str, str]:
    window = world.accounts[account_id].calls["private_reply"]
    seconds = at.timestamp()
    usage = {
        "type": "instagram",
        "call_count": 100 * window.count(seconds) // max(1, window.most),
        "total_cputime": 1,
        "total_time": 1,
        "estimated_time_to_regain_access": int(-(-window.find_wait(seconds) // 60)),
    }
    return {"X-Business-Use-Case-Usage": orjson.dumps({account_id: [usage]}).decode()}

"""The calls of the Graph API that the fake knows, by their paths."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import orjson

from automations.demo.sandbox.messages import read_message
from automations.demo.sandbox.refusals import Refused
from automations.demo.sandbox.server import Request
from automations.demo.sandbox.state import Received, World

# A version in front is allowed, as in /v23.0/me.
_PATH = re.compile(r"^(?:/v\d+\.\d+)?/(?P<id>[^/]+)(?:/(?P<edge>messages|replies))?$")


class Call(NamedTuple):
    """A call that was understood; `carry_out` returns its answer, and what was delivered."""

    where: str  # messages, replies or profile
    key: str  # what it wants: the same for every attempt
    carry_out: Callable[[World, str, datetime], tuple[dict[str, Any], Received | None]]


def read_token(request: Request) -> str:
    """Return the token of the header. Raises Refused, also for one in the URL."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind != "Bearer" or "access_token" in request.target:
        raise Refused("bad_token")
    return token


def read_call(request: Request) -> Call:
    """Return what a request asks for. Raises Refused."""
    parts = urlsplit(request.target)
    match = _PATH.match(parts.path)
    if match is None:
        raise Refused("no_object")
    object_id = unquote(match["id"])
    read = _READERS.get((request.method, match["edge"]))
    if read is None:
        raise Refused("bad_parameter", "method")
    if request.method == "GET":
        return read(object_id, parse_qs(parts.query))
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise Refused("bad_parameter", "body")
    return read(object_id, body)


def _read_messages(object_id: str, body: dict[str, Any]) -> Call:
    recipient = body.get("recipient")
    if not isinstance(recipient, dict):
        raise Refused("bad_parameter", "recipient")
    content = read_message(body.get("message"))
    comment_id, person_id = recipient.get("comment_id"), recipient.get("id")
    if isinstance(comment_id, str) == isinstance(person_id, str):
        raise Refused("bad_parameter", "recipient[id or comment_id]")

    def carry_out(
        world: World, account_id: str, at: datetime
    ) -> tuple[dict[str, Any], Received | None]:
        if object_id not in (account_id, "me"):
            raise Refused("no_object")
        if isinstance(comment_id, str):
            received = world.reply_privately(account_id, comment_id, content, at)
        else:
            received = world.send_message(account_id, str(person_id), content, at)
        answer = {"recipient_id": received.person_id, "message_id": received.message_id}
        return answer, received

    return Call("messages", f"{object_id}:{comment_id}:{person_id}:{content[0]}", carry_out)


def _read_replies(object_id: str, body: dict[str, Any]) -> Call:
    text = body.get("message")
    if not isinstance(text, str) or not text.strip():
        raise Refused("bad_parameter", "message")

    def carry_out(
        world: World, account_id: str, at: datetime
    ) -> tuple[dict[str, Any], Received | None]:
        received = world.reply_publicly(account_id, object_id, text, at)
        return {"id": received.message_id}, received

    return Call("replies", f"{object_id}:public", carry_out)


def _read_profile(object_id: str, query: dict[str, Any]) -> Call:
    if query.get("fields") != ["is_user_follow_business"]:
        raise Refused("bad_parameter", "fields")

    def carry_out(
        world: World, account_id: str, at: datetime
    ) -> tuple[dict[str, Any], Received | None]:
        is_following = world.is_following(account_id, object_id, at)
        return {"is_user_follow_business": is_following, "id": object_id}, None

    return Call("profile", f"{object_id}:profile", carry_out)


_READERS: dict[tuple[str, str | None], Callable[[str, dict[str, Any]], Call]] = {
    ("POST", "messages"): _read_messages,
    ("POST", "replies"): _read_replies,
    ("GET", None): _read_profile,
}

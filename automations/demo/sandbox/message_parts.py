"""What Meta demands of a message: its parts and their lengths."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from automations.demo.sandbox.refusals import Refused

_TEXT_BYTES = 1000
_Text = Annotated[str, Meta(pattern=r"\S")]
_TemplateText = Annotated[_Text, Meta(max_length=640)]
_Title = Annotated[_Text, Meta(max_length=20)]
_Payload = Annotated[_Text, Meta(max_length=1000)]


class _Postback(Struct, tag_field="type", tag="postback"):
    title: _Title
    payload: _Payload


class _WebUrl(Struct, tag_field="type", tag="web_url"):
    title: _Title
    url: Annotated[str, Meta(pattern="^https?://")]


class _Template(Struct):
    template_type: Literal["button"]
    text: _TemplateText
    buttons: Annotated[list[_Postback | _WebUrl], Meta(min_length=1, max_length=3)]


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
    quick_replies: Annotated[list[_QuickReply], Meta(max_length=13)] = []


class Button(NamedTuple):
    """A button as a person sees it; `kind` is postback, quick_reply or web_url."""

    kind: str
    title: str
    value: str  # the payload, or the URL


def read_message(message: Any) -> tuple[str, tuple[Button, ...]]:
    """Return the text and the buttons of a message. Raises Refused."""
    try:
        parts = msgspec.convert(message, _Message)
    except msgspec.ValidationError as error:
        raise Refused("bad_parameter", str(error)) from error
    if (parts.text is None) == (parts.attachment is None):
        raise Refused("bad_parameter", "message[text or attachment]")
    if parts.attachment is not None:
        template = parts.attachment.payload
        return template.text, tuple(map(_build_button, template.buttons))
    text = parts.text or ""
    if len(text.encode()) > _TEXT_BYTES:
        raise Refused("bad_parameter", "message[text] length")
    replies = (Button("quick_reply", one.title, one.payload) for one in parts.quick_replies)
    return text, tuple(replies)


def _build_button(button: _Postback | _WebUrl) -> Button:
    if isinstance(button, _Postback):
        return Button("postback", button.title, button.payload)
    return Button("web_url", button.title, button.url)

"""What Meta demands of a message: its parts and their lengths."""

from __future__ import annotations

from typing import Any, NamedTuple

from automations.demo.sandbox.refusals import Refused

_TEXT_BYTES = 1000
_TEMPLATE_TEXT = 640
_TITLE = 20
_PAYLOAD = 1000
_BUTTONS = 3
_QUICK_REPLIES = 13


class Button(NamedTuple):
    """A button as a person sees it; `kind` is postback, quick_reply or web_url."""

    kind: str
    title: str
    value: str  # the payload, or the URL


def read_message(message: Any) -> tuple[str, tuple[Button, ...]]:
    """Return the text and the buttons of a message. Raises Refused."""
    _demand(isinstance(message, dict), "message")
    _demand(("text" in message) != ("attachment" in message), "message[text or attachment]")
    if "attachment" in message:
        return _read_template(message["attachment"])
    text = _read_text(message["text"], "message[text]", most_bytes=_TEXT_BYTES)
    replies = message.get("quick_replies", [])
    _demand(isinstance(replies, list) and len(replies) <= _QUICK_REPLIES, "message[quick_replies]")
    return text, tuple(map(_read_quick_reply, replies))


def _read_template(attachment: Any) -> tuple[str, tuple[Button, ...]]:
    _demand(
        isinstance(attachment, dict) and attachment.get("type") == "template", "attachment[type]"
    )
    payload = attachment.get("payload")
    _demand(
        isinstance(payload, dict) and payload.get("template_type") == "button",
        "attachment[payload][template_type]",
    )
    text = _read_text(payload.get("text"), "attachment[payload][text]", most=_TEMPLATE_TEXT)
    buttons = payload.get("buttons")
    _demand(
        isinstance(buttons, list) and 1 <= len(buttons) <= _BUTTONS, "attachment[payload][buttons]"
    )
    return text, tuple(map(_read_button, buttons))


def _read_button(button: Any) -> Button:
    _demand(isinstance(button, dict), "button")
    title = _read_text(button.get("title"), "button[title]", most=_TITLE)
    if button.get("type") == "postback":
        payload = _read_text(button.get("payload"), "button[payload]", most=_PAYLOAD)
        return Button("postback", title, payload)
    _demand(button.get("type") == "web_url", "button[type]")
    url = _read_text(button.get("url"), "button[url]")
    _demand(url.startswith(("https://", "http://")), "button[url]")
    return Button("web_url", title, url)


def _read_quick_reply(reply: Any) -> Button:
    _demand(isinstance(reply, dict) and reply.get("content_type") == "text", "quick_reply")
    title = _read_text(reply.get("title"), "quick_reply[title]", most=_TITLE)
    payload = _read_text(reply.get("payload"), "quick_reply[payload]", most=_PAYLOAD)
    return Button("quick_reply", title, payload)


def _read_text(
    value: Any, name: str, *, most: int | None = None, most_bytes: int | None = None
) -> str:
    _demand(isinstance(value, str) and value.strip() != "", name)
    text: str = value
    _demand(most is None or len(text) <= most, f"{name} length")
    _demand(most_bytes is None or len(text.encode()) <= most_bytes, f"{name} length")
    return text


def _demand(is_fine: bool, name: str) -> None:
    if not is_fine:
        raise Refused("bad_parameter", name)

"""The content of a step as the Graph API takes it, within Meta's limits.

A text has 1000 bytes of UTF-8. A button template has a text of 640 characters and 1 to 3 buttons,
quick replies at most 13, each title 20 characters, a payload 1000
(https://developers.facebook.com/docs/instagram-platform/instagram-api-with-instagram-login/messaging-api
and https://developers.facebook.com/docs/messenger-platform/instagram/features/button-template).
What the API of this project accepts fits. What an older product stored may not, and is made to fit
by these rules, in this order:

- a button under a text too long for a template becomes a quick reply under it;
- links too many, or under a text too long for a template, become lines of the text;
- a text that is still too long is cut at a word, and ends in an ellipsis; links are never cut.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

MESSAGE_BYTES = 1000
TEMPLATE_TEXT_LENGTH = 640
MOST_BUTTONS = 3
TITLE_LENGTH = 20
PAYLOAD_LENGTH = 1000
# Of a public reply: what a comment of a person may have.
COMMENT_LENGTH = 2200

# What waits for a tap has a button, also where the automation names none.
DEFAULT_BUTTON_TITLE = "Continue"
# A template needs a text; this one is right in every language.
DEFAULT_LINKS_TEXT = "👇"
_DEFAULT_LINK_TITLE = "Open"

_ELLIPSIS = "…"
# A cut looks for a space this far back, so that a text without spaces keeps its length.
_WORD_SEARCH_LENGTH = 40
_JOINERS = "\u200d\ufe0e\ufe0f"
_SKIN_TONES = range(0x1F3FB, 0x1F400)
# Two of these are a flag.
_FLAG_HALVES = range(0x1F1E6, 0x1F200)

Message = dict[str, Any]


class UnsendableContent(ValueError):
    """A step holds nothing that could be sent within Meta's limits. The message has no text."""


def build_message(step: Mapping[str, Any], *, payload: str | None = None) -> Message:
    """Return the message of a step: `opening_dm`, `ask_follow` or `main_dm`.

    With `payload` (at most 1000 characters) it has a button that sends it back, titled by the
    step's `button`. Without one it has none: a button that leads nowhere would be a lie.
    Raises UnsendableContent.
    """
    text = step.get("text") or ""
    links = [link for link in step.get("links") or () if link.get("url")]
    if payload is not None:
        title = (step.get("button") or "").strip() or DEFAULT_BUTTON_TITLE
        return _build_button_message(text, title, payload)
    if links:
        return _build_links_message(text, links)
    if not text.strip():
        raise UnsendableContent("a message needs a text")
    return {"text": cut_text(text, most_bytes=MESSAGE_BYTES)}


def choose_public_reply(step: Mapping[str, Any], *, trigger_id: str) -> str:
    """Return one of the texts of a `comment_reply`, always the same one for a trigger.

    Raises UnsendableContent when it has none.
    """
    texts: Sequence[str] = step.get("texts") or ()
    if not texts:
        raise UnsendableContent("a public reply needs a text")
    # Python's own hash() differs between processes.
    number = int.from_bytes(sha256(trigger_id.encode("utf-8", "surrogatepass")).digest()[:8])
    return texts[number % len(texts)][:COMMENT_LENGTH]


def cut_text(text: str, *, most_bytes: int) -> str:
    """Return `text` within so many bytes of UTF-8, cut at a word if it must be, with an ellipsis.

    Never cuts inside a character as people see it: a flag, a skin tone, an accent stays whole.
    """
    data = text.encode("utf-8", "replace")
    if len(data) <= most_bytes:
        return data.decode()
    room = most_bytes - len(_ELLIPSIS.encode())
    if room < 0:
        return ""
    kept = data[:room].decode("utf-8", "ignore")
    kept = _drop_broken_end(kept, following=text[len(kept)])
    space = max(kept.rfind(" "), kept.rfind("\n"))
    if space >= len(kept) - _WORD_SEARCH_LENGTH and space > 0:
        kept = kept[:space]
    return kept.rstrip() + _ELLIPSIS


def _drop_broken_end(kept: str, *, following: str) -> str:
    # The character that follows belongs to the last one kept, or the last one joins it on.
    while kept and (_continues(following) or kept[-1] == "\u200d"):
        following = kept[-1]
        kept = kept[:-1]
    halves = len(kept) - len(kept.rstrip("".join(map(chr, _FLAG_HALVES))))
    return kept[:-1] if halves % 2 and ord(following) in _FLAG_HALVES else kept


def _continues(character: str) -> bool:
    return (
        character in _JOINERS
        or ord(character) in _SKIN_TONES
        or unicodedata.combining(character) != 0
    )


def _build_button_message(text: str, title: str, payload: str) -> Message:
    if not text.strip():
        raise UnsendableContent("a message with a button needs a text")
    if len(payload) > PAYLOAD_LENGTH:
        raise UnsendableContent(f"a payload has no more than {PAYLOAD_LENGTH} characters")
    title = _cut_title(title)
    if len(text) <= TEMPLATE_TEXT_LENGTH:
        return _build_template(text, [{"type": "postback", "title": title, "payload": payload}])
    return {
        "text": cut_text(text, most_bytes=MESSAGE_BYTES),
        "quick_replies": [{"content_type": "text", "title": title, "payload": payload}],
    }


def _build_links_message(text: str, links: Sequence[Mapping[str, Any]]) -> Message:
    if len(links) > MOST_BUTTONS or len(text) > TEMPLATE_TEXT_LENGTH:
        return {"text": _write_links(text, links)}
    buttons = [
        {"type": "web_url", "url": link["url"], "title": _cut_title(_name_link(link))}
        for link in links
    ]
    return _build_template(text if text.strip() else DEFAULT_LINKS_TEXT, buttons)


def _build_template(text: str, buttons: list[dict[str, str]]) -> Message:
    payload = {"template_type": "button", "text": text, "buttons": buttons}
    return {"attachment": {"type": "template", "payload": payload}}


def _write_links(text: str, links: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"{link['title']}: {link['url']}" if link.get("title") else link["url"]
             for link in links]  # fmt: skip
    while len("\n".join(lines).encode("utf-8", "replace")) > MESSAGE_BYTES:
        lines.pop()
    if not lines:
        raise UnsendableContent(f"a link has no more than {MESSAGE_BYTES} bytes")
    block = "\n".join(lines)
    room = MESSAGE_BYTES - len(block.encode("utf-8", "replace")) - 1
    shown = cut_text(text, most_bytes=room).rstrip() if room > 0 else ""
    return f"{shown}\n{block}" if shown and shown != _ELLIPSIS else block


def _name_link(link: Mapping[str, Any]) -> str:
    if title := str(link.get("title") or "").strip():
        return title
    try:
        return urlsplit(link["url"]).hostname or _DEFAULT_LINK_TITLE
    except ValueError:
        return _DEFAULT_LINK_TITLE


def _cut_title(title: str) -> str:
    if len(title) <= TITLE_LENGTH:
        return title
    return title[: TITLE_LENGTH - 1].rstrip() + _ELLIPSIS

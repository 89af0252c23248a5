"""The form of an automation: labels, values and errors. Pure.

Their names are those that DRF's serializers read from a form: `trigger.match`, lists one item per
line.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from automations.dashboard.formatting import TYPES
from automations.rules.automation import MATCHES

_MATCH_WORDS = {
    "exact": "is exactly a keyword",
    "word": "contains a keyword as a whole word",
    "contains": "contains a keyword",
    "any": "can be anything",
}


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A field: text, lines, area, select or switch; `only` for one type."""

    name: str
    label: str
    kind: str = "text"
    hint: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    only: str = ""
    is_required: bool = False

    @property
    def id(self) -> str:
        return f"f-{self.name.replace('.', '-')}"


class Group(msgspec.Struct, frozen=True):
    title: str
    hint: str
    fields: tuple[Field, ...]
    only: str = ""


_COMMENTS = "comment_to_dm"
GROUPS = (
    Group(
        "Automation",
        "",
        (
            Field(name="name", label="Name", is_required=True),
            Field(name="type", label="Answers", kind="select", choices=tuple(TYPES.items())),
            Field(name="accountId", label="Instagram account", is_required=True,
                  hint="The id of its professional account."),
            Field(name="isActive", label="Active", kind="switch"),
        ),
    ),
    Group(
        "Trigger",
        "",
        (
            Field(name="trigger.match", label="The text", kind="select",
                  choices=tuple((name, _MATCH_WORDS[name]) for name in MATCHES)),
            Field(name="trigger.keywords", label="Keywords", kind="lines", hint="One per line."),
            Field(name="trigger.postIds", label="Posts", kind="lines", only=_COMMENTS,
                  hint="One id per line. Leave it empty for all posts."),
        ),
    ),
    Group(
        "Public reply",
        "Posted below the comment. One of the texts is chosen at random.",
        (Field(name="commentReply.texts", label="Texts", kind="lines", hint="One per line."),),
        _COMMENTS,
    ),
    Group(
        "Opening message",
        "Sent first. Tapping its button sends the rest.",
        (
            Field(name="openingDm.text", label="Text", kind="area"),
            Field(name="openingDm.button", label="Button"),
        ),
    ),
    Group(
        "Request to follow",
        "Sent to people who do not follow the account.",
        (
            Field(name="askFollow.text", label="Text", kind="area"),
            Field(name="askFollow.button", label="Button"),
        ),
    ),
    Group(
        "Main message",
        "Sent last, with the links.",
        (
            Field(name="mainDm.text", label="Text", kind="area"),
            Field(name="mainDm.links", label="Links", kind="lines",
                  hint="One per line, at most three: title | https://address"),
        ),
    ),
)  # fmt: skip


def read_document(values: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: _find(values, field.name) for field in list_fields()}


def list_fields() -> Iterator[Field]:
    for group in GROUPS:
        yield from group.fields


def flatten_errors(errors: Mapping[str, Any]) -> dict[str, str]:
    names = {field.name for field in list_fields()}
    found: dict[str, str] = {}
    for path, message in _walk(errors, ""):
        parts = path.split(".")
        name = next((one for end in (2, 1) if (one := ".".join(parts[:end])) in names), parts[0])
        line = next((int(part) + 1 for part in parts if part.isdecimal()), None)
        found.setdefault(name, message if line is None else f"Line {line}: {message}")
    return found


def _walk(errors: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(errors, Mapping):
        for name, inner in errors.items():
            yield from _walk(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(errors, list):
        for number, inner in enumerate(errors):
            if isinstance(inner, Mapping | list):
                yield from _walk(inner, f"{path}.{number}")
            else:
                yield path, str(inner)
    else:
        yield path, str(errors)


def _find(values: Mapping[str, Any], name: str) -> Any:
    found: Any = values
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found

"""What the API accepts: the fields of an automation, within Meta's lengths, and no others."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bson import Int64, ObjectId
from django.core.validators import URLValidator
from rest_framework import serializers
from rest_framework.fields import empty
from rest_framework.utils import html

from automations.api.base import StrictSerializer, is_credential, to_json
from automations.instagram.limits import (
    COMMENT_LENGTH,
    MESSAGE_BYTES,
    MOST_BUTTONS,
    TEMPLATE_TEXT_LENGTH,
    TITLE_LENGTH,
)
from automations.rules.automation import DEFAULT_MATCH, MATCHES
from automations.rules.steps import PARTS, STEPS_BY_TYPE

LINK_SEPARATOR = "|"

# Bounds of ours, so that a document stays small.
_NAME_LENGTH = 200
_ID_LENGTH = 100
_KEYWORD_LENGTH = 200
_URL_LENGTH = 2000
_MOST_ITEMS = 500
_MOST_TEXTS = 20

_TYPES = tuple(STEPS_BY_TYPE)


def check_size(text: str) -> None:
    """Refuse more bytes of UTF-8 than Meta takes in a message."""
    size = len(text.encode("utf-8", "replace"))
    if size > MESSAGE_BYTES:
        raise serializers.ValidationError(
            f"Ensure this text has no more than {MESSAGE_BYTES} bytes of UTF-8 (it has {size}).",
            code="max_bytes",
        )


class TextField(serializers.CharField):
    """Text only, because DRF's own field turns numbers into text.

    Answers leave out what looks like a credential, so that a form would lose it.
    """

    default_error_messages = {
        "credential": "This looks like a credential (an access token, a key or a password), which "
        "people would see."
    }

    def run_validation(self, data: Any = empty) -> Any:
        if data is not empty and data is not None and not isinstance(data, str):
            self.fail("invalid")
        if isinstance(data, str) and is_credential(data, is_named=False):
            self.fail("credential")
        return super().run_validation(data)


class SwitchField(serializers.BooleanField):
    """True by default, but false where an HTML form leaves it out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # DRF puts the default in its place, and a box could never be unticked.
        self.default_empty_html = False


class LinesField(serializers.ListField):
    """A list; an HTML form has one item per line."""

    def __init__(self, **options: Any) -> None:
        style = {"template": "automations/form_lines.html", "rows": 3}
        super().__init__(**options, required=False, style=style)

    def get_value(self, dictionary: Mapping[Any, Any]) -> Any:
        """Return the raw list, also from a textarea."""
        if not html.is_html_input(dictionary) or self.field_name not in dictionary:
            return super().get_value(dictionary)
        texts: list[str] = dictionary.getlist(self.field_name)  # type: ignore[attr-defined]
        lines = (line.strip() for text in texts for line in str(text).splitlines())
        return [self.parse_line(line) for line in lines if line]

    def parse_line(self, line: str) -> Any:
        return line


class LinksField(LinesField):
    """Links; an HTML form has `title | url` per line."""

    def parse_line(self, line: str) -> Any:
        title, _, url = line.rpartition(LINK_SEPARATOR)
        return {"title": title.strip(), "url": url.strip()}


class MessageSerializer(StrictSerializer):
    """A message; with buttons or links it is a button template, whose text is shorter."""

    text = TextField(
        required=False,
        allow_blank=True,
        validators=[check_size],
        style={"base_template": "textarea.html", "rows": 3},
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in attrs.items() if value}
        text = kept.get("text")
        for buttons in kept.keys() - {"text"}:
            if not text:
                raise serializers.ValidationError(
                    {"text": f"{buttons!r} needs a text."}, "required"
                )
            if len(text) > TEMPLATE_TEXT_LENGTH:
                raise serializers.ValidationError(
                    {
                        "text": f"A text with {buttons!r} has no more than {TEMPLATE_TEXT_LENGTH} "
                        f"characters (this one has {len(text)})."
                    },
                    "max_length",
                )
        return kept


class TriggerSerializer(StrictSerializer):
    """What starts an automation."""

    match = serializers.ChoiceField(
        choices=MATCHES,
        default=DEFAULT_MATCH,
        initial=DEFAULT_MATCH,
        help_text="How keywords are compared with the text.",
    )
    keywords = LinesField(
        child=TextField(max_length=_KEYWORD_LENGTH),
        max_length=_MOST_ITEMS,
        help_text="Without keywords only the match 'any' starts it.",
    )
    postIds = LinesField(
        child=TextField(max_length=_ID_LENGTH),
        max_length=_MOST_ITEMS,
        help_text="Posts it is for; none means all posts.",
    )


class CommentReplySerializer(StrictSerializer):
    """The public reply to a comment; one of the texts is chosen."""

    texts = LinesField(child=TextField(max_length=COMMENT_LENGTH), max_length=_MOST_TEXTS)


class ButtonMessageSerializer(MessageSerializer):
    """A message with a button."""

    button = TextField(max_length=TITLE_LENGTH, required=False, allow_blank=True)


class LinkSerializer(StrictSerializer):
    """A button that opens a page."""

    title = TextField(max_length=TITLE_LENGTH)
    url = TextField(
        max_length=_URL_LENGTH,
        validators=[URLValidator(schemes=["http", "https"], message="Enter an http or https URL.")],
    )


class LinksMessageSerializer(MessageSerializer):
    """A message with links."""

    links = LinksField(
        child=LinkSerializer(),
        max_length=MOST_BUTTONS,
        help_text="In this form, one link a line: title | url",
    )


class AutomationSerializer(StrictSerializer):
    """A new automation. An absent, null or empty part is no step.

    The context's `verify_account` is called with the account that is named, and raises
    ValidationError if it is another workspace's.
    """

    name = TextField(max_length=_NAME_LENGTH)
    type = serializers.ChoiceField(choices=_TYPES, initial=_TYPES[0])
    accountId = TextField(
        max_length=_ID_LENGTH, help_text="The Instagram professional account it answers for."
    )
    isActive = SwitchField(default=True, initial=True)
    trigger = TriggerSerializer(required=False)
    commentReply = CommentReplySerializer(required=False, allow_null=True)
    openingDm = ButtonMessageSerializer(required=False, allow_null=True)
    askFollow = ButtonMessageSerializer(required=False, allow_null=True)
    mainDm = LinksMessageSerializer(required=False, allow_null=True)

    def validate_accountId(self, value: str) -> str:  # noqa: N802 - DRF's name for it
        self.context["verify_account"](value)
        return value

    def to_representation(self, instance: Mapping[str, Any]) -> dict[str, Any]:
        names = [str(name) for name in self.fields]
        return {name: to_json(instance[name]) for name in names if name in instance}


class AutomationChangesSerializer(AutomationSerializer):
    """Changes of an automation. A null or empty part is removed."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Return the same fields, all optional and without defaults.

        DRF's own `partial` would also make the fields inside of parts and links optional.
        """
        fields = super().get_fields()
        for field in fields.values():
            field.required = False
            field.default = serializers.empty
        return fields


def build_document(values: Mapping[str, Any], *, workspace_id: str, at: datetime) -> dict[str, Any]:
    named = {name: values[name] for name in ("name", "type", "accountId", "isActive")}
    return {
        "_id": ObjectId(),
        "workspaceId": workspace_id,
        **named,
        "trigger": values.get("trigger") or {"match": DEFAULT_MATCH, "keywords": []},
        **{part: values[part] for part in PARTS if _has_content(values.get(part))},
        "totalRuns": Int64(0),
        "lastRunAt": None,
        "createdAt": at,
        "updatedAt": at,
    }


def build_changes(
    values: Mapping[str, Any], *, at: datetime
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return (fields to set, fields to remove)."""
    removed = tuple(part for part in PARTS if part in values and not _has_content(values[part]))
    kept = {name: value for name, value in values.items() if name not in removed}
    return {**kept, "updatedAt": at}, removed


def _has_content(part: Mapping[str, Any] | None) -> bool:
    return part is not None and any(part.values())

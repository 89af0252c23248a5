"""Input fields of the API that DRF does not have: strict text, and lists as lines of a form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.validators import URLValidator
from rest_framework import serializers
from rest_framework.fields import empty
from rest_framework.utils import html

LINK_SEPARATOR = "|"


class TextField(serializers.CharField):
    """Text only: DRF's own field turns numbers into text, and ids would lose digits."""

    def __init__(self, *, max_bytes: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        if max_bytes is not None:
            self.validators.append(MaxBytes(max_bytes))

    def run_validation(self, data: Any = empty) -> Any:
        """Return the text, trimmed. Raises ValidationError."""
        if data is not empty and data is not None and not isinstance(data, str):
            self.fail("invalid")
        return super().run_validation(data)


class MaxBytes:
    """At most so many bytes of UTF-8, which is how Meta counts a message."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def __call__(self, text: str) -> None:
        """Raise ValidationError for a longer text."""
        size = len(text.encode("utf-8", "replace"))
        if size > self.limit:
            raise serializers.ValidationError(
                f"Ensure this text has no more than {self.limit} bytes of UTF-8 (it has {size}).",
                code="max_bytes",
            )


class WebLinkField(TextField):
    """An http or https URL."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.validators.append(
            URLValidator(schemes=["http", "https"], message="Enter an http or https URL.")
        )


class SwitchField(serializers.BooleanField):
    """On unless it is said otherwise; an HTML form says so by leaving out a box without a tick."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # DRF puts the default in its place, and a box could never be unticked.
        self.default_empty_html = False


class LinesField(serializers.ListField):
    """A list; an HTML form has one item a line."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("style", {"template": "automations/form_lines.html", "rows": 3})
        super().__init__(**options)

    def get_value(self, dictionary: Mapping[Any, Any]) -> Any:
        """Return the raw list, also from a textarea."""
        if not html.is_html_input(dictionary) or self.field_name not in dictionary:
            return super().get_value(dictionary)
        texts: list[str] = dictionary.getlist(self.field_name)  # type: ignore[attr-defined]
        lines = (line.strip() for text in texts for line in str(text).splitlines())
        return [self.parse_line(line) for line in lines if line]

    def parse_line(self, line: str) -> Any:
        """Return the item that a line of the form stands for."""
        return line


class LinksField(LinesField):
    """A list of {title, url}; an HTML form has `title | url` on each line."""

    def parse_line(self, line: str) -> Any:
        """Return the link that a line of the form stands for."""
        title, _, url = line.rpartition(LINK_SEPARATOR)
        return {"title": title.strip(), "url": url.strip()}

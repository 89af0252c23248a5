"""Input fields that DRF lacks: strict text, and lists as lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.validators import URLValidator
from rest_framework import serializers
from rest_framework.fields import empty
from rest_framework.utils import html

LINK_SEPARATOR = "|"


class TextField(serializers.CharField):
    """Text only, because DRF's own field turns numbers into text."""

    def __init__(self, *, max_bytes: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        if max_bytes is not None:
            self.validators.append(MaxBytes(max_bytes))

    def run_validation(self, data: Any = empty) -> Any:
        if data is not empty and data is not None and not isinstance(data, str):
            self.fail("invalid")
        return super().run_validation(data)


class MaxBytes:
    """At most so many bytes of UTF-8, as Meta counts a message."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def __call__(self, text: str) -> None:
        size = len(text.encode("utf-8", "replace"))
        if size > self.limit:
            raise serializers.ValidationError(
                f"Ensure this text has no more than {self.limit} bytes of UTF-8 (it has {size}).",
                code="max_bytes",
            )


class WebLinkField(TextField):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.validators.append(
            URLValidator(schemes=["http", "https"], message="Enter an http or https URL.")
        )


class SwitchField(serializers.BooleanField):
    """True by default, but false where an HTML form leaves it out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # DRF puts the default in its place, and a box could never be unticked.
        self.default_empty_html = False


class LinesField(serializers.ListField):
    """A list; an HTML form has one item per line."""

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
        """Return the item that a line stands for."""
        return line


class LinksField(LinesField):
    """Links; an HTML form has `title | url` per line."""

    def parse_line(self, line: str) -> Any:
        title, _, url = line.rpartition(LINK_SEPARATOR)
        return {"title": title.strip(), "url": url.strip()}

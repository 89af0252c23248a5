"""Lists as the lines of a textarea, the inverse of LinesField."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import template

from automations.api.fields import LINK_SEPARATOR

register = template.Library()


@register.filter
def as_lines(value: Any) -> str:
    """Return one line per item; what a person typed comes back as it was."""
    if not isinstance(value, list):
        return str(value or "")
    return "\n".join(map(_build_line, value))


def _build_line(item: Any) -> str:
    if isinstance(item, Mapping):
        return f"{item.get('title', '')} {LINK_SEPARATOR} {item.get('url', '')}"
    return str(item)

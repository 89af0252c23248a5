"""What templates draw and write: small charts, times, numbers, lists as lines."""

from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from automations.api.serializers import LINK_SEPARATOR
from automations.dashboard.charts import SPARK_HEIGHT, SPARK_WIDTH, Spark
from automations.dashboard.formatting import format_moment
from tracking.clock import format_time

register = template.Library()

_SPARK = (
    f'<svg class="spark" viewBox="0 0 {SPARK_WIDTH} {SPARK_HEIGHT}" width="{SPARK_WIDTH}" '
    f'height="{SPARK_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="%s">'
    '<path class="spark-area" d="%s"/><path class="spark-line" d="%s"/></svg>'
)


@register.simple_tag
def spark(line: Spark | None) -> SafeString:
    if line is None:
        return mark_safe('<span class="quiet">no runs</span>')
    # Numbers of ours alone: escaping each would be a good part of the page.
    return mark_safe(_SPARK % (line.text, line.area, line.line))  # noqa: S308


@register.filter
def number(value: int | None) -> SafeString:
    """Return a whole number with separators; a dash for None."""
    return mark_safe("–" if value is None else f"{value:,d}")  # noqa: S308 - digits alone


@register.simple_tag
def moment(value: datetime | None, zone: tzinfo, words: str = "") -> str:
    if value is None:
        return words or "never"
    exact = format_moment(value, zone=zone)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', format_time(value), exact, words or exact
    )


@register.filter
def as_lines(value: Any) -> str:
    """Return a list as the lines of a textarea; what a person typed stays as it was."""
    return "\n".join(map(_build_line, value)) if isinstance(value, list) else str(value or "")


def _build_line(item: Any) -> str:
    if isinstance(item, Mapping):
        return f"{item.get('title', '')} {LINK_SEPARATOR} {item.get('url', '')}"
    return str(item)

"""The paths of the site, made from the URL configuration: a new one is in it by itself."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from django.urls import URLPattern, URLResolver, get_resolver


def list_routes(patterns: Any, prefix: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from list_routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route


ROUTES = sorted(set(list_routes(get_resolver().url_patterns)))
OWNED = [route for route in ROUTES if "<str:wsid>" in route]


def fill_in(route: str, workspace_id: str, **values: str) -> str:
    """A path with its parameters filled in: the automation `a1`, the run `r1`, or `values`."""
    filled = {"wsid": workspace_id, "automation_id": "a1", "run_id": "r1", **values}
    return "/" + re.sub(
        r"<str:(\w+)>",
        lambda found: quote(filled[found[1]], safe="", errors="surrogatepass"),
        route,
    )

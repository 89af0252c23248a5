"""Who is asking."""

from __future__ import annotations

from typing import Literal


class Anonymous:
    """A request without a token. Django's own AnonymousUser needs a database of users."""

    is_authenticated: Literal[False] = False
    is_anonymous: Literal[True] = True

    def __str__(self) -> str:
        return "anonymous"

"""An access token that knows where it is valid, and that no log, repr or trace gives away."""

from enum import StrEnum
from typing import Self


class Host(StrEnum):
    """Where an account's calls go: by the login that made its token."""

    INSTAGRAM = "graph.instagram.com"
    FACEBOOK = "graph.facebook.com"


class AccessToken(str):
    """A token; `str(token)` is the secret itself, its repr is not."""

    __slots__ = ("host",)

    host: Host

    def __new__(cls, value: str, *, host: Host = Host.INSTAGRAM) -> Self:
        """Make a token for a host."""
        token = super().__new__(cls, value)
        token.host = host
        return token

    def __repr__(self) -> str:
        return f"<AccessToken for {self.host.value}>"

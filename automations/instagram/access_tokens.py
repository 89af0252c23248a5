"""An access token that knows its host, and whose repr hides the secret."""

from enum import StrEnum
from typing import Self


class Host(StrEnum):
    """Where an account's calls go; the login that issued its token decides."""

    INSTAGRAM = "graph.instagram.com"
    FACEBOOK = "graph.facebook.com"


class AccessToken(str):
    """A token; `str(token)` is the secret, its repr is not."""

    __slots__ = ("host",)

    host: Host

    def __new__(cls, value: str, *, host: Host = Host.INSTAGRAM) -> Self:
        token = super().__new__(cls, value)
        token.host = host
        return token

    def __repr__(self) -> str:
        return f"<AccessToken for {self.host.value}>"

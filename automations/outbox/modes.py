"""What is done with an account's jobs: send, shadow or hold."""

from __future__ import annotations

from enum import Enum

ACTIVE = "active"


class Mode(Enum):
    """What is done with an account's jobs."""

    SEND = "send"
    SHADOW = "everything but the call"
    HOLD = "they stay queued until their window ends"


def find_mode(setting: str, *, has_token: bool, can_send: bool) -> Mode:
    """Return the mode of an account by INSTAGRAM_SENDING and whether it works.

    By default ("") an account is sent for if it has a token, else it is a shadow.
    """
    if setting == "off":
        return Mode.HOLD
    if setting == "shadow" or (setting == "" and not has_token):
        return Mode.SHADOW
    return Mode.SEND if can_send else Mode.HOLD

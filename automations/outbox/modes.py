"""Whether an account's jobs are sent, sent in shadow, or held."""

from enum import Enum


class Mode(Enum):
    SEND = "send"
    SHADOW = "everything except the call"
    HOLD = "jobs stay queued until their window ends"


def find_mode(setting: str, *, has_token: bool, can_send: bool) -> Mode:
    """Return the mode of an account by INSTAGRAM_SENDING and whether it works.

    By default ("") an account with a token sends; one without is in shadow.
    """
    if setting == "off":
        return Mode.HOLD
    if setting == "shadow" or (setting == "" and not has_token):
        return Mode.SHADOW
    return Mode.SEND if can_send else Mode.HOLD

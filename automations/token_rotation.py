"""Stored access tokens under another key, so that the one before can be thrown away."""

from __future__ import annotations

import msgspec

from automations import account_store
from automations.encryption import Undecryptable, decrypt, encrypt


class Rotation(msgspec.Struct, frozen=True):
    """How many tokens were encrypted again, and the accounts whose token no key reads."""

    rotated: int
    unreadable: tuple[str, ...]


def rotate_tokens() -> Rotation:
    """Encrypt every stored token with the first key.

    A token that is replaced meanwhile stays as it was stored: with the first key too, if that
    process has it already. Raises EncryptionKeyMissing and TrackingUnavailable.
    """
    rotated, unreadable = 0, []
    for account_id, encrypted in account_store.list_tokens():
        try:
            token = decrypt(encrypted)
        except Undecryptable:
            unreadable.append(account_id)
            continue
        rotated += account_store.replace_token(account_id, old=encrypted, new=encrypt(token))
    return Rotation(rotated, tuple(unreadable))

"""Secrets at rest: encrypted with the first of FIELD_ENCRYPTION_KEYS, decrypted with any.

A key is rotated by putting the new one in front; what is stored again is encrypted with it.
"""

from contextlib import suppress
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from automations.conf import conf

_MAKE_KEY = (
    'python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'
)


class EncryptionKeyMissing(Exception):
    """FIELD_ENCRYPTION_KEYS has no usable key; the message says how to fix it."""


class Undecryptable(Exception):
    """No key in FIELD_ENCRYPTION_KEYS decrypts it. The message holds nothing of it."""


def encrypt(text: str) -> str:
    """Return `text` encrypted and signed, as URL-safe base64. Raises EncryptionKeyMissing."""
    return _get_fernet().encrypt(text.encode()).decode("ascii")


def decrypt(encrypted: str) -> str:
    fernet = _get_fernet()
    with suppress(InvalidToken, UnicodeError):
        return fernet.decrypt(encrypted.encode()).decode()
    raise Undecryptable("It was encrypted with a key that is not in FIELD_ENCRYPTION_KEYS.")


def make_key() -> str:
    return Fernet.generate_key().decode("ascii")


def _get_fernet() -> MultiFernet:
    keys = conf.field_encryption_keys
    if keys:
        with suppress(ValueError):
            return _build_fernet(keys)
    fact = "holds what is no Fernet key" if keys else "should be set to store access tokens"
    raise EncryptionKeyMissing(f"FIELD_ENCRYPTION_KEYS {fact}; this makes a key: {_MAKE_KEY}")


@lru_cache(maxsize=4)
def _build_fernet(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])

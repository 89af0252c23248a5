from typing import Any

import pytest
from cryptography.fernet import Fernet

from automations.accounts.encryption import (
    EncryptionKeyMissing,
    Undecryptable,
    decrypt,
    encrypt,
    make_key,
)
from automations.instagram.access_tokens import AccessToken, Host

OLD, NEW = make_key(), make_key()


@pytest.mark.parametrize(
    "encrypted",
    ["", "nonsense", "ümlaut", Fernet(OLD).encrypt(b"s").decode()],
    ids=["empty", "nonsense", "not ASCII", "another key"],
)
def test_what_no_key_has_encrypted(settings: Any, encrypted: str) -> None:
    settings.FIELD_ENCRYPTION_KEYS = (NEW,)
    with pytest.raises(Undecryptable) as caught:
        decrypt(encrypted)
    assert str(caught.value) == (
        "It was encrypted with a key that is not in FIELD_ENCRYPTION_KEYS."
    )
    assert caught.value.__context__ is None


def test_what_is_no_key_is_not_shown(settings: Any) -> None:
    settings.FIELD_ENCRYPTION_KEYS = (NEW, "not-a-key")
    with pytest.raises(EncryptionKeyMissing, match="holds what is no Fernet key") as caught:
        encrypt("x")
    assert "not-a-key" not in str(caught.value)


def test_an_access_token_hides_itself() -> None:
    token = AccessToken("IGAA-secret", host=Host.FACEBOOK)
    assert repr(token) == "<AccessToken for graph.facebook.com>"
    assert "secret" not in f"{[token]} {token!r}"
    assert f"Bearer {token}" == "Bearer IGAA-secret"

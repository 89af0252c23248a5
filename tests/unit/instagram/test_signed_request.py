"""Only what Meta signed says whom to erase."""

import hmac
import json
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automations.instagram.signature import InvalidSignature
from automations.instagram.signed_request import MalformedRequest, parse_signed_request

SECRET = "test-app-secret"
FIELDS = {"user_id": "218471", "algorithm": "HMAC-SHA256", "issued_at": 1291836800}


def encode(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def build_signed_request(content: Any = FIELDS, secret: str = SECRET) -> str:
    payload = encode(content if isinstance(content, bytes) else json.dumps(content).encode())
    return f"{encode(hmac.digest(secret.encode(), payload.encode(), sha256))}.{payload}"


@pytest.mark.parametrize("user_id", ["218471", 218471])
@pytest.mark.parametrize("secrets", [[SECRET], ["other", SECRET]])
def test_who_asks(user_id: Any, secrets: list[str]) -> None:
    signed = build_signed_request(FIELDS | {"user_id": user_id, "algorithm": "hmac-sha256"})
    assert parse_signed_request(signed, secrets) == "218471"


def test_padding_may_be_there() -> None:
    signature, payload = build_signed_request().split(".")
    assert parse_signed_request(f"{signature}=.{payload}", [SECRET]) == "218471"


@pytest.mark.parametrize("secrets", [[], [""], ["other"]])
def test_another_secret(secrets: list[str]) -> None:
    with pytest.raises(InvalidSignature):
        parse_signed_request(build_signed_request(), secrets)
    with pytest.raises(InvalidSignature):
        parse_signed_request(build_signed_request(secret=""), secrets)


@given(st.integers(0, 10_000), st.characters())
def test_one_character_changed_is_refused(index: int, character: str) -> None:
    signed = build_signed_request()
    index %= len(signed) - 1
    changed = signed[:index] + character + signed[index + 1 :]
    try:
        assert parse_signed_request(changed, [SECRET]) == "218471"
    except InvalidSignature:
        return
    # Base64 has spare bits in the last character of the signature, and no others.
    assert changed == signed or index == signed.index(".") - 1


@given(st.text())
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(InvalidSignature):
        parse_signed_request(text, [SECRET])


@pytest.mark.parametrize(
    "content",
    [
        b"no json", [], "text", {}, {"user_id": "1"}, FIELDS | {"algorithm": "none"},
        FIELDS | {"algorithm": 1}, FIELDS | {"user_id": ""}, FIELDS | {"user_id": None},
        FIELDS | {"user_id": ["1"]}, FIELDS | {"user_id": True},
    ],
)  # fmt: skip
def test_signed_and_malformed(content: Any) -> None:
    with pytest.raises(MalformedRequest):
        parse_signed_request(build_signed_request(content), [SECRET])


def test_too_long_is_refused() -> None:
    with pytest.raises(InvalidSignature):
        parse_signed_request(build_signed_request(FIELDS | {"x": "y" * 5000}), [SECRET])

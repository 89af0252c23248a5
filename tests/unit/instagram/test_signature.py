import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automations.instagram.signature import InvalidSignature, verify_signature

BODY = rb'{"object":"instagram","entry":[{"text":"\u00e9\ud83d\ude00"}]}'


def sign(body: bytes, secret: str) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def test_a_known_signature() -> None:
    # Test case 2 of RFC 4231.
    verify_signature(
        b"what do ya want for nothing?",
        "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ["Jefe"],
    )


@pytest.mark.parametrize("secrets", [["one"], ["one", "two"], ["two", "one"], ["", "one"]])
def test_any_of_the_secrets_may_have_signed(secrets: list[str]) -> None:
    verify_signature(BODY, sign(BODY, "one"), secrets)


def test_a_secret_and_a_body_may_hold_any_character() -> None:
    verify_signature(b"\xff\x00", sign(b"\xff\x00", "sécret"), ["sécret"])


@given(st.integers(0, len(BODY) * 8 - 1), st.integers(0, len(sign(BODY, "one")) * 8 - 1))
def test_one_changed_bit_of_body_or_header_is_refused(at: int, of: int) -> None:
    header = sign(BODY, "one")
    with pytest.raises(InvalidSignature):
        verify_signature(change_bit(BODY, at), header, ["one"])
    with pytest.raises(InvalidSignature):
        verify_signature(BODY, change_bit(header.encode(), of).decode("latin-1"), ["one"])


def change_bit(data: bytes, at: int) -> bytes:
    return bytes([*data[: at // 8], data[at // 8] ^ 1 << at % 8, *data[at // 8 + 1 :]])


def test_the_refusal_tells_no_secret_and_no_signature() -> None:
    with pytest.raises(InvalidSignature) as caught:
        verify_signature(BODY, "sha256=" + "0" * 64, ["one"])
    assert sign(BODY, "one").removeprefix("sha256=") not in str(caught.value)
    assert "'one'" not in str(caught.value)


def test_every_secret_is_tried_also_after_a_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    compare = hmac.compare_digest

    def count(a: bytes, b: bytes) -> bool:
        compared.append(b)
        return compare(a, b)

    monkeypatch.setattr("automations.instagram.signature.hmac.compare_digest", count)
    verify_signature(BODY, sign(BODY, "one"), ["one", "two", "three"])
    assert len(compared) == 3

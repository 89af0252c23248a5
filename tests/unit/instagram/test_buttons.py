"""Only we can make a payload, and what it says comes back to the letter."""

from typing import Any

import msgspec
import pytest
from django.core.signing import Signer
from django.test import override_settings
from hypothesis import assume, example, given
from hypothesis import strategies as st

from automations.instagram.buttons import TapPayload, build_payload, parse_payload
from automations.instagram.limits import PAYLOAD_LENGTH
from automations.instagram.messages import UnsendableContent, build_message

TRIGGER = "17841400000000001:comment:17900000000000001"
RUN = "6923f0c8a1b2c3d4e5f60718"
CONTENT = TapPayload(TRIGGER, RUN, "a1", "opening_dm")
PAYLOAD = build_payload(*msgspec.structs.astuple(CONTENT))

ids = st.text(st.characters(max_codepoint=0x7F), min_size=1, max_size=40)
contents = st.builds(TapPayload, ids, st.none() | ids, ids, ids)


def build(content: TapPayload) -> str:
    return build_payload(*msgspec.structs.astuple(content))


@given(contents)
@example(CONTENT)
@example(TapPayload("é\U0001f600", None, "\0", '"'))
def test_payload_says_what_it_was_built_of(content: TapPayload) -> None:
    payload = build(content)
    assert payload.isascii()
    assert parse_payload(payload) == content


@given(contents, st.data())
def test_a_changed_character_is_none_of_ours(content: TapPayload, data: st.DataObject) -> None:
    payload = build(content)
    place = data.draw(st.integers(0, len(payload) - 1))
    other = data.draw(st.characters() | st.sampled_from("Aa0-_.="))
    assume(other != payload[place])
    assert parse_payload(payload[:place] + other + payload[place + 1 :]) is None


@given(st.text() | st.text(st.sampled_from("run1.Aa0-_"), max_size=60).map("run1.".__add__))
@example("run1." + "A" * 4 + "." + "A" * 43)
@example("run1.é." + "A" * 43)
@example("run1.\ud800." + "A" * 43)
@example(PAYLOAD + "\n")
@example(PAYLOAD + "=")
@example(PAYLOAD + ".")
@example("x" + PAYLOAD)
@example(PAYLOAD.replace("run1.", "run2."))
@example("run1." + "A" * 4_000_000)
@example("\ud800")
def test_foreign_text_is_none_of_ours(text: str) -> None:
    assert parse_payload(text) is None


def test_a_key_that_was_replaced_still_proves_a_payload() -> None:
    with override_settings(SECRET_KEY="other"):
        payload = build(CONTENT)
    assert parse_payload(payload) is None
    with override_settings(SECRET_KEY_FALLBACKS=["third", "other"]):
        assert parse_payload(payload) == CONTENT


SALT = "automations.button_payloads"


@pytest.mark.parametrize(
    ("content", "salt"),
    [
        *[([], SALT), ({}, SALT), ("text", SALT), ([TRIGGER, RUN, "a1"], SALT)],
        *[([1, RUN, "a1", "step"], SALT), ([TRIGGER, RUN, "a1", "opening_dm"], "elsewhere")],
    ],
)
def test_what_another_version_or_part_signed_is_none_of_ours(content: Any, salt: str) -> None:
    assert parse_payload(f"run1.{Signer(salt=salt, sep='.').sign_object(content)}") is None


def test_run_that_is_not_known_yet_is_none() -> None:
    payload = build_payload(TRIGGER, "", "a1", "opening_dm")
    assert parse_payload(payload) == TapPayload(TRIGGER, None, "a1", "opening_dm")


def test_ids_as_long_as_they_come_fit() -> None:
    mid = "aWdfZAG1faXRlbToxOk1lc3NhZA2VJRDox" * 8
    payload = build_payload(f"17841400000000001:message:{mid}", RUN, RUN, "ask_follow")
    assert len(payload) <= PAYLOAD_LENGTH


def test_payload_too_long_for_meta_is_not_sent() -> None:
    payload = build_payload("x" * 900, RUN, "a1", "opening_dm")
    with pytest.raises(UnsendableContent, match="no more than 1000 characters"):
        build_message({"name": "opening_dm", "text": "Hi"}, payload=payload)

"""Only we can make a payload, and what it says comes back to the letter."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from automations.instagram.buttons import (
    LONGEST_PAYLOAD,
    PayloadTooLong,
    TapPayload,
    build_payload,
    has_shape,
    parse_payload,
    parse_payload_of_any,
)

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
TRIGGER = "17841400000000001:comment:17900000000000001"
RUN = "6923f0c8a1b2c3d4e5f60718"
PAYLOAD = build_payload(TRIGGER, RUN, "a1", "opening_dm", key=KEY)

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
contents = st.builds(TapPayload, ids, st.none() | ids, ids, ids)


def build(content: TapPayload, key: bytes = KEY) -> str:
    return build_payload(
        content.trigger_id, content.run_id, content.automation_id, content.step, key=key
    )


@given(contents)
@example(TapPayload(TRIGGER, RUN, "a1", "opening_dm"))
def test_payload_says_what_it_was_built_of(content: TapPayload) -> None:
    payload = build(content)
    assert payload.isascii()
    assert has_shape(payload)
    assert parse_payload(payload, key=KEY) == content


@given(contents, st.data())
def test_payload_with_any_character_changed_is_none_of_ours(
    content: TapPayload, data: st.DataObject
) -> None:
    payload = build(content)
    place = data.draw(st.integers(0, len(payload) - 1))
    other = data.draw(st.characters() | st.sampled_from("Aa0-_.="))
    assume(other != payload[place])
    assert parse_payload(payload[:place] + other + payload[place + 1 :], key=KEY) is None


@given(st.text() | st.text(st.sampled_from("run1.Aa0-_"), max_size=60).map("run1.".__add__))
@example("run1." + "A" * 4 + "." + "A" * 22)
@example("run1.é." + "A" * 22)
@example(PAYLOAD + "\n")
@example(PAYLOAD + "=")
@example(PAYLOAD + ".")
@example("x" + PAYLOAD)
@example(PAYLOAD.replace("run1.", "run2."))
@example("\ud800")
def test_foreign_text_is_none_of_ours(text: str) -> None:
    assert parse_payload(text, key=KEY) is None


@given(contents)
def test_another_key_makes_no_payload_of_ours(content: TapPayload) -> None:
    payload = build(content, OTHER_KEY)
    assert parse_payload(payload, key=KEY) is None
    assert parse_payload_of_any(payload, keys=[KEY]) is None
    assert parse_payload_of_any(payload, keys=[KEY, OTHER_KEY]) == content


def test_signature_of_another_content_does_not_fit() -> None:
    other = build_payload(TRIGGER, RUN, "a2", "opening_dm", key=KEY)
    mixed = f"{PAYLOAD.rpartition('.')[0]}.{other.rpartition('.')[2]}"
    assert parse_payload(mixed, key=KEY) is None


def test_run_that_is_not_known_yet_is_none() -> None:
    payload = build_payload(TRIGGER, "", "a1", "opening_dm", key=KEY)
    assert parse_payload(payload, key=KEY) == TapPayload(TRIGGER, None, "a1", "opening_dm")


def test_ids_as_long_as_they_come_fit() -> None:
    mid = "aWdfZAG1faXRlbToxOk1lc3NhZA2VJRDox" * 8
    payload = build_payload(f"17841400000000001:message:{mid}", RUN, RUN, "ask_follow", key=KEY)
    assert len(payload) <= LONGEST_PAYLOAD


def test_payload_too_long_for_meta_is_not_built() -> None:
    with pytest.raises(PayloadTooLong, match="at most 1000 characters"):
        build_payload("x" * 900, RUN, "a1", "opening_dm", key=KEY)

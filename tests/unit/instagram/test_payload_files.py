"""Every file of tests/payloads, with what it is read as; and every word of the tables, a file."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any, NamedTuple, get_args

import msgspec
import pytest

from automations.instagram.elements import (
    ELEMENT_READERS,
    FIELD_READERS,
    IGNORED_FIELDS,
    MESSAGE_FLAGS,
    MESSAGING_KEYS,
)
from automations.instagram.events import (
    IGNORED_REASONS,
    Delivery,
    Echo,
    Event,
    EventType,
    Reason,
)
from automations.instagram.payloads import build_envelope, parse_delivery
from tests.support.webhook_cases import PAYLOAD_NAMES, read_payload

ACCOUNT = "17841400000000001"
OTHER_ACCOUNT = "17841400000000002"
PERSON = "8800000000000001"
POST, REEL, AD, STORY, LIVE = (f"1805000000000000{n}" for n in range(1, 6))
SECONDS = datetime(2025, 11, 23, 10, 30, tzinfo=UTC)
MILLISECONDS = datetime(2025, 11, 23, 10, 30, 0, 123_000, tzinfo=UTC)
MID = "aWdfZAG1faXRlbToxOk1lc3NhZA2VJRDoxNzg0MTQwMDAwMDAwMDAwMTozNDAyODIzNjY4NDE3MTAzMDEyNDQyNzYwMDAwMDAwMDA6MDA"  # noqa: E501
# Signed with another key: a reader only looks at how it begins.
PAYLOAD = (
    "run1.WyIxNzg0MTQwMDAwMDAwMDAwMTpjb21tZW50OjE3OTAwMDAwMDAwMDAwMDAxIiwiNjkyM2"
    "YwYzhhMWIyYzNkNGU1ZjYwNzE4IiwiYTEiLCJvcGVuaW5nX2RtIl0"
    ".tDttmMae1IiLP_TJJUDvW-ssczWyz6s8h9j4tpfnDFU"
)


class Expected(NamedTuple):
    events: list[Event]
    ignored: dict[Reason, int]
    errors: list[str]


def comment(n: int = 1, **changes: Any) -> Event:
    values: dict[str, Any] = {
        "type": "comment",
        "kind": "comment",
        "event_id": f"1790000000000000{n}",
        "account_id": ACCOUNT,
        "user_id": PERSON,
        "username": "ana.example",
        "text": "Price please!",
        "media_ids": (POST,),
        "occurred_at": SECONDS,
    }
    return Event(**values | changes)


def unknown(n: int = 1, **changes: Any) -> Event:
    changes = {"username": None} | changes
    return comment(n, user_id=f"comment:1790000000000000{n}", person_unknown=True, **changes)


def message(text: str | None = "Hello", n: int = 1, **changes: Any) -> Event:
    values: dict[str, Any] = {
        "type": "message",
        "kind": "message",
        "event_id": f"{MID}{n:02d}",
        "account_id": ACCOUNT,
        "user_id": PERSON,
        "text": text,
        "occurred_at": MILLISECONDS,
    }
    return Event(**values | changes)


def tap(n: int = 1, **changes: Any) -> Event:
    return message(None, n, **{"type": "tap", "payload": PAYLOAD} | changes)


def events(*found: Event) -> Expected:
    return Expected(list(found), {}, [])


def ignored(reason: Reason, count: int = 1) -> Expected:
    return Expected([], {reason: count}, [])


def broken(error: str, *found: Event) -> Expected:
    return Expected(list(found), {}, [error])


VALUE = "entry[].changes[].value"
EXPECTED: dict[str, Expected] = {
    # Comments: where they stand
    "comments__feed": events(comment()),
    "comments__reels": events(comment(media_ids=(REEL,))),
    "comments__story_media": events(comment(media_ids=(STORY,))),
    "comments__live_media": events(comment(media_ids=(LIVE,), is_live=True)),
    "comments__ad": events(comment(media_ids=(AD, POST))),
    "comments__ad_of_itself": events(comment(media_ids=(AD,))),
    "comments__without_media": events(comment(media_ids=())),
    "comments__reply": events(comment(2, parent_id="17900000000000001", text="And in blue?")),
    "live_comments__comment": events(comment(media_ids=(LIVE,), is_live=True)),
    # Comments: what may be missing, or look another way
    "comments__without_from": events(unknown()),
    "comments__without_from_id": events(unknown(username="ana.example")),
    "comments__without_text": events(comment(text=None)),
    "comments__without_id": broken(f"{VALUE}.id should be a non-empty string, not null or missing"),
    "comments__comment_id_key": events(comment()),
    "comments__user_named_test": events(comment(username="test")),
    "comments__integer_ids": events(comment()),
    "comments__ids_past_64_bits": events(comment(event_id="179000000000000010000000000001")),
    "comments__lone_surrogate": events(comment(text="Price please \ufffd")),
    "comments__lone_surrogate_in_id": broken(
        f"{VALUE}.id should be a string of whole characters, not one with half a surrogate pair"
    ),
    "comments__hostile_text": events(comment(text='$where\0 {"$gt": ""} </script>')),
    "comments__time_in_milliseconds": events(comment(occurred_at=MILLISECONDS)),
    "comments__time_in_string": events(comment()),
    "comments__without_time": events(comment(occurred_at=None)),
    "comments__batch_with_one_broken": broken(
        f"{VALUE}.text should be a string, not an array", comment(1), comment(3)
    ),
    # Comments: never a trigger
    "comments__own_by_from_id": ignored("own_comment"),
    "comments__own_by_self_ig_scoped_id": ignored("own_comment"),
    "comments__test_comment_id": ignored("test"),
    "comments__test_button": ignored("test"),
    # Comments: the other shapes
    "comments__flat_entry": events(comment()),
    "comments__array": events(comment()),
    "comments__array_of_two": events(comment(1), comment(2)),
    "comments__sample_box": ignored("test"),
    # Messages
    "messages__text": events(message("Hello, is this still available?")),
    "messages__quick_reply": events(message("Yes, please")),
    "messages__reply_to_message": events(message("That one")),
    "messages__referral_inside": events(message("I saw your ad")),
    "messages__attachments_without_text": events(message(None)),
    "messages__story_reply": events(
        message("Love it", type="story_reply", story_id="18060000000000001")
    ),
    "messages__story_reply_without_id": events(message("Love it", type="story_reply")),
    "messages__story_mention": events(message(None, type="story_mention")),
    "messages__two_accounts": events(message(), message("Hi there", 2, account_id=OTHER_ACCOUNT)),
    "messages__in_changes": events(message(occurred_at=SECONDS)),
    "messages__timestamp_in_seconds": events(message(occurred_at=SECONDS)),
    "messages__timestamp_in_string": events(message()),
    "messages__without_timestamp": events(message()),
    "messages__without_sender": broken(
        "entry[].messaging[].sender should be an object, not null or missing"
    ),
    "messages__without_mid": broken(
        "entry[].messaging[].message.mid should be a non-empty string, not null or missing"
    ),
    "messages__flag_not_boolean": broken(
        "entry[].messaging[].message.is_echo should be true or false, not a string"
    ),
    # Taps: on a button of ours they carry a run on, on another they are what they always were
    "messaging_postbacks__button": ignored("postback"),
    "messaging_postbacks__in_changes": ignored("postback"),
    "messaging_postbacks__tap": events(tap()),
    "messaging_postbacks__tap_in_changes": events(tap()),
    "messaging_postbacks__tap_without_mid": broken(
        "entry[].messaging[].postback.mid should be a non-empty string, not null or missing"
    ),
    "messaging_postbacks__forged_tap": ignored("forged_tap"),
    "messages__quick_reply_without_payload": events(message("Yes, please")),
    "messages__quick_reply_tap": events(tap()),
    "messages__quick_reply_forged_tap": events(tap(payload=PAYLOAD[:121])),
    # Messages: never a trigger
    "messages__echo": ignored("echo"),
    "messages__from_account": ignored("echo"),
    "messages__self": ignored("self"),
    "messages__deleted": ignored("deleted"),
    "messages__unsupported": ignored("unsupported"),
    "messages__sample_mid": ignored("test"),
    "messages__test_button": ignored("test"),
    "messages__test_button_own_account": ignored("test"),
    "messages__echo_without_recipient": ignored("echo"),
    # What is no message
    "mentions__caption": ignored("mentions"),
    "mentions__comment": ignored("mentions"),
    "story_insights__expired": ignored("story_insights"),
    "message_edit__text": ignored("edit"),
    "message_edit__in_changes": ignored("edit"),
    "message_edit__test_button": ignored("test"),
    "message_reactions__react": ignored("reaction"),
    "message_reactions__unreact": ignored("reaction"),
    "message_reactions__in_changes": ignored("reaction"),
    "message_reactions__test_button": ignored("test"),
    "messaging_referral__link": ignored("referral"),
    "messaging_referral__in_changes": ignored("referral"),
    "messaging_seen__read": ignored("seen"),
    "messaging_seen__in_changes": ignored("seen"),
    "messaging_handover__pass_thread_control": ignored("handover"),
    "messaging_handover__take_thread_control": ignored("handover"),
    "messaging_handover__request_thread_control": ignored("handover"),
    "messaging_handover__app_roles": ignored("handover"),
    "messaging_handover__in_changes": ignored("handover"),
    "standby__message": ignored("standby", 2),
    "standby__in_changes": ignored("standby"),
    # Envelopes
    "envelope__messaging_and_changes": events(comment(occurred_at=MILLISECONDS), message()),
    "envelope__messaging_and_standby": Expected([message()], {"standby": 1}, []),
    "envelope__object_page": ignored("other_object"),
    "envelope__unknown_field": ignored("unknown_field"),
    "envelope__unknown_messaging_key": ignored("unknown_field"),
    "envelope__entry_without_known_key": ignored("unknown_field"),
    "envelope__no_entries": events(),
    "envelope__entry_not_object": broken("entry[] should be an object, not a string", comment()),
    "envelope__entry_without_id": broken(
        "entry[].id should be a non-empty string, not null or missing", comment(2)
    ),
    "envelope__changes_not_array": broken("entry[].changes should be an array", message()),
    "envelope__element_not_object": broken(
        "entry[].messaging[] should be an object, not a string", message()
    ),
    "envelope__element_without_field": broken(
        "entry[].changes[].field should be a string, not null or missing"
    ),
    "envelope__array_with_stranger": broken("the body should hold entry", comment()),
}


def test_every_file_has_an_expected_result_and_every_result_a_file() -> None:
    assert set(PAYLOAD_NAMES) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_payload_is_read_as_expected(name: str) -> None:
    delivery = parse_delivery(read_payload(name))
    found = Expected(
        [msgspec.structs.replace(one, entry={}) for one in delivery.events + delivery.taps],
        delivery.ignored,
        [malformed.error for malformed in delivery.malformed],
    )
    assert found == EXPECTED[name]
    # Taps are never among what may start an automation.
    assert all(event.type != "tap" and event.payload is None for event in delivery.events)
    assert all(event.type == "tap" and event.payload for event in delivery.taps)
    echo = Echo(account_id=ACCOUNT, mid=f"{MID}01", user_id=PERSON, occurred_at=MILLISECONDS)
    assert delivery.echoes == [echo] * (name in {"messages__echo", "messages__from_account"})


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_replayed_alone_is_read_as_before(name: str) -> None:
    delivery = parse_delivery(read_payload(name))
    for malformed in delivery.malformed:
        assert parse_delivery(malformed.raw) == Delivery(malformed=[malformed])
    for event in delivery.events + delivery.taps:
        again = parse_delivery(build_envelope(event.entry))
        assert again.events + again.taps == [event]
        assert not again.malformed
        assert not again.ignored


@pytest.mark.parametrize("name", EXPECTED)
def test_what_an_account_ignored_is_part_of_what_was_ignored(name: str) -> None:
    delivery = parse_delivery(read_payload(name))
    by_account: Counter[Reason] = Counter()
    for reasons in delivery.ignored_by_account.values():
        by_account.update(reasons)
    accountless = {"test", "other_object"}
    assert {r: n for r, n in by_account.items() if r not in accountless} == {
        r: n for r, n in delivery.ignored.items() if r not in accountless
    }
    assert set(delivery.ignored_by_account) <= {ACCOUNT, OTHER_ACCOUNT}


def test_every_event_type_and_every_ignored_reason_has_a_file() -> None:
    found = {event.type for expected in EXPECTED.values() for event in expected.events}
    assert found == set(get_args(EventType))
    reasons = {reason for expected in EXPECTED.values() for reason in expected.ignored}
    assert reasons == set(IGNORED_REASONS)


def test_every_field_of_changes_has_files() -> None:
    fields = {name.split("__")[0] for name in EXPECTED} - {"envelope"}
    assert fields == set(FIELD_READERS) | set(IGNORED_FIELDS)


@pytest.mark.parametrize("key", [*ELEMENT_READERS, *MESSAGING_KEYS, *MESSAGE_FLAGS])
def test_every_key_that_decides_is_in_a_file(key: str) -> None:
    assert any(f'"{key}":'.encode() in read_payload(name) for name in EXPECTED)

"""Reading bodies that Meta did not mean to send: nothing but a Delivery, or UnreadableDelivery."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automations.instagram.elements import read_time
from automations.instagram.events import IGNORED_REASONS, Delivery, UnreadableDelivery
from automations.instagram.payloads import build_envelope as build_raw
from automations.instagram.payloads import parse_delivery
from tests.support.attack_corpus import (
    ACCOUNT,
    JSON,
    SECRET,
    TEXT,
    build_comment,
    build_envelope,
    list_mutants,
    write,
)
from tests.support.webhook_cases import PAYLOAD_NAMES


def check(body: bytes) -> Delivery | None:
    """Read a body and check all that is promised of every Delivery."""
    delivery, refusal = None, ""
    try:
        delivery = parse_delivery(body)
    except UnreadableDelivery as error:
        refusal = str(error)
    assert SECRET not in refusal
    if delivery is None:
        return None
    assert set(delivery.ignored) <= set(IGNORED_REASONS)
    for event in delivery.events:
        for value in (event.event_id, event.account_id, event.user_id, *event.media_ids):
            assert value.encode()
        for value in (event.text, event.username, event.story_id, event.parent_id):
            assert value is None or value.encode() is not None
        # Numbers past 64 bits, which no field of an event holds, may be floats the second time.
        again = parse_delivery(build_raw(event.entry))
        again.events = [msgspec.structs.replace(one, entry=event.entry) for one in again.events]
        assert again == Delivery(events=[event])
    for echo in delivery.echoes:
        assert echo.mid.encode()
        assert echo.user_id.encode()
    for malformed in delivery.malformed:
        assert SECRET not in malformed.error
        assert parse_delivery(malformed.raw) == Delivery(malformed=[malformed])
    return delivery


def read(body: bytes) -> Delivery:
    delivery = check(body)
    assert delivery is not None
    return delivery


@pytest.mark.parametrize("name", PAYLOAD_NAMES)
def test_a_payload_broken_anywhere_breaks_alone(name: str) -> None:
    neighbour = build_envelope(build_comment(id="neighbour"))
    for broken in list_mutants(name):
        check(write(broken))
        if not isinstance(broken, list):
            delivery = read(write([broken, neighbour]))
            assert delivery.events[-1].event_id == "neighbour"


@settings(deadline=None)
@given(payload=JSON)
def test_any_json_is_read_or_unreadable(payload: Any) -> None:
    check(write(payload))


@settings(deadline=None)
@given(value=JSON)
def test_any_json_in_the_place_of_an_element_breaks_alone(value: Any) -> None:
    good = build_comment()
    for envelope in (
        build_envelope(good, value, good),
        build_envelope(good, {"field": "comments", "value": value}, good),
        build_envelope(good, good, messaging=[value]),
        build_envelope(good, good, messaging=value),
    ):
        delivery = read(write(envelope))
        assert sum(event.event_id == "1" for event in delivery.events) >= 2


@settings(deadline=None)
@given(body=st.binary() | st.text().map(str.encode))
def test_any_bytes_are_read_or_unreadable(body: bytes) -> None:
    check(body)


@settings(deadline=None)
@given(text=TEXT)
def test_any_text_is_kept_but_for_halves_of_pairs(text: str) -> None:
    [event] = parse_delivery(write(build_envelope(build_comment(text=text)))).events
    # What the network does to text: pairs that came in two halves are whole again.
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert event.text == "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in whole)


@pytest.mark.parametrize(
    "body",
    [
        *[b"", b" ", b"{", b"null", b"0", b'"instagram"', b"[]", b"{}", b'{"field":"comments"}'],
        *[b'{"object":"instagram"}', b'{"entry":[]}', b'{"object":null,"entry":[]}'],
        *[b'{"object":"instagram","entry":null}', b'{"object":"instagram","entry":{}}'],
        b'{"object":"instagram","entry":[],"x":NaN}',
        b'{"object":"instagram","entry":[],"x":Infinity}',
        b'{"object":"instagram","entry":[]} trailing',
        *[b"object=instagram&entry=1", b"{'object': 'instagram', 'entry': []}"],
        b'{"object":"instagram","entry":["\xff"]}',
        b'\xef\xbb\xbf{"object":"instagram","entry":[]}',
        '{"object":"instagram","entry":[]}'.encode("utf-16"),
    ],
)
def test_what_is_no_delivery_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableDelivery):
        parse_delivery(body)


@pytest.mark.parametrize("depth", [1100, 100_000])
@pytest.mark.parametrize(("left", "right"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_a_body_nested_too_deeply_is_unreadable(left: bytes, right: bytes, depth: int) -> None:
    body = b'{"object":"instagram","entry":[' + left * depth + b"1" + right * depth + b"]}"
    with pytest.raises(UnreadableDelivery, match="deep"):
        parse_delivery(body)


@pytest.mark.parametrize("depth", [100, 199, 200, 201, 253, 254, 300, 900, 1010])
@pytest.mark.parametrize("filling", [b"1", b'"\\ud83d"', b"9" * 30])
def test_a_broken_element_of_any_depth_breaks_alone(depth: int, filling: bytes) -> None:
    deep = b'{"field":"comments","value":{"id":"7","text":' + b"[" * depth + filling
    deep += b"]" * depth + b"}}"
    good = write(build_comment())
    body = b'{"object":"instagram","entry":[{"id":"5","changes":[' + deep + b"," + good + b"]}]}"
    delivery = check(body)
    if depth < 900 or filling == b"1":
        assert delivery is not None
        assert len(delivery.events) == len(delivery.malformed) == 1


@pytest.mark.parametrize("digits", ["9" * 25, "9" * 4301, "-" + "9" * 5000, "1e400", "-1e400"])
def test_a_number_of_any_size_breaks_alone(digits: str) -> None:
    body = write(build_envelope(build_comment(), build_comment(text="NUMBER")))
    delivery = read(body.replace(b'"NUMBER"', digits.encode()))
    assert len(delivery.events) == len(delivery.malformed) == 1


def test_the_dead_letter_keeps_every_digit() -> None:
    body = write(build_envelope(build_comment(id=10**25 + 1, text=[])))
    [malformed] = parse_delivery(body).malformed
    assert b"10000000000000000000000001" in malformed.raw


def test_everything_for_the_test_account_is_ignored() -> None:
    envelope = build_envelope(
        build_comment(), {"broken": True}, id="0", messaging=[{}, None], standby=[{}]
    )
    assert parse_delivery(write(envelope)) == Delivery(ignored={"test": 5})
    assert parse_delivery(write(build_envelope(build_comment(), id=0))).ignored == {"test": 1}


def test_own_comment_is_known_by_the_account_of_its_own_entry() -> None:
    own = build_comment(**{"from": {"id": ACCOUNT}})
    assert parse_delivery(write(build_envelope(own))).ignored == {"own_comment": 1}
    [event] = parse_delivery(write(build_envelope(own, id="5"))).events
    assert event.user_id == ACCOUNT


HALF_PAST_TEN = datetime(2025, 11, 23, 10, 30, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("expected", "values"),
    [
        (HALF_PAST_TEN, [1763893800, "1763893800"]),
        (HALF_PAST_TEN + 250 * MILLISECOND, [1763893800.25]),
        (HALF_PAST_TEN + 123 * MILLISECOND, [1763893800123, 1763893800123.9, "1763893800123"]),
        (datetime(2001, 9, 9, 1, 46, 40, 1_000, tzinfo=UTC), [10**12 + 1]),
        (datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC), [253_402_300_799_999]),
        (None, [253_402_300_800_000, 10**12, 10**30, 1e300, 0, -1, None, True, []]),
        (None, ["", "²", "-5", "9" * 5000, "2025-11-23T10:30:00Z"]),
    ],
)
def test_times_in_seconds_and_milliseconds(expected: datetime | None, values: list[Any]) -> None:
    assert [read_time(value) for value in values] == [expected] * len(values)

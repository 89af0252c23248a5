"""Any BSON becomes JSON, and nothing secret comes out."""

import json
import time
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import bson
import orjson
import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from automations.api.automations import build_automation
from automations.api.base import OrjsonRenderer, to_json
from tracking.clock import format_time
from tracking.queries.stats import RunSummary

NOON = datetime(2026, 11, 23, 10, 30, 0, 123000, tzinfo=UTC)
KATHMANDU = timezone(timedelta(hours=5, minutes=45))
UUID_1 = UUID("12345678-1234-5678-1234-567812345678")


HEX = "65f000000000000000000001"
FORMS: list[tuple[object, list[object]]] = [
    ("2026-11-23T10:30:00.123Z", [NOON, NOON.replace(tzinfo=None), NOON.astimezone(KATHMANDU)]),
    ("2026-11-23T10:30:00.000Z", [NOON.replace(microsecond=0)]),
    ("2023-11-14T22:13:20.000Z", [Timestamp(1_700_000_000, 1)]),
    (HEX, [ObjectId(HEX)]),
    (2**62, [Int64(2**62)]),
    ("12.50", [Decimal128("12.50")]),
    (1.5, [1.5]),
    (None, [Decimal128("NaN"), Decimal128("Infinity"), float("nan"), float("-inf")]),
    (None, [MinKey(), MaxKey(), DatetimeMS(2**60), None]),
    ("AP8=", [b"\x00\xff", Binary(b"\x00\xff", 5)]),
    (str(UUID_1), [UUID_1, Binary.from_uuid(UUID_1)]),
    ("c2hvcnQ=", [Binary(b"short", 4)]),
    ("^a", [Regex("^a", "i")]),
    ("^\ufffd", [Regex(b"^\xff", 0)]),
    ("return 1", [Code("return 1")]),
    ({"$ref": "posts", "$id": HEX}, [DBRef("posts", ObjectId(HEX))]),
    (True, [True]),
    ({"a": [{"b": "2026-11-23T10:30:00.123Z"}]}, [{"a": [{"b": NOON}]}]),
]


@pytest.mark.parametrize(("shown", "values"), FORMS)
def test_every_bson_type_has_a_json_form(shown: object, values: list[object]) -> None:
    for value in values:
        assert to_json(value) == shown, value
        assert type(to_json(value)) is type(shown), value


def test_milliseconds_are_cut_not_rounded() -> None:
    assert format_time(NOON.replace(microsecond=999_999)) == "2026-11-23T10:30:00.999Z"


@pytest.mark.parametrize(
    "name",
    ["accessToken", "access_token", "token", "pageAccessToken", "appSecret", "client-secret",
     "PASSWORD", "apiKey", "private_key", "credentials"],
)  # fmt: skip
def test_credentials_are_left_out_at_any_depth(name: str) -> None:
    assert to_json({"a": [{name: "x", "kept": 1}], name: "x"}) == {"a": [{"kept": 1}]}


META, OURS, RANDOM = "EAAB" + "x1Z" * 20, "art_" + "a-B_9" * 9, "k3y9f0c2b7d84e61"


@pytest.mark.parametrize(
    "value",
    [META, f"IGAA{RANDOM}", f"token {META}.", f"Bearer {RANDOM}", f"BEARER {RANDOM}", OURS,
     f"x-auth: bearer {RANDOM}", "eyJhbGciOiJI.eyJzdWIiOiIx.c2ln",
     "-----BEGIN RSA PRIVATE KEY-----", "mongodb+srv://me:pa55@db.example.com/x", "redis://:p@h:6379",
     "https://graph.example.com/me?access_token=abc", "grant=x&client_secret=abc&y=1",
     "https://x.example/?next=%2Fme%3Faccess_token%3Dabc", f"https://u:p@x/{'a' * 5000}",
     META.encode(), Code(f"send('{META}')"), Regex(f"^{META}")],
)  # fmt: skip
def test_what_holds_a_credential_is_left_out_under_any_name(value: object) -> None:
    document = {"note": value, "a": [{"b": [value, 1]}], "name": "Link", META: 1}
    assert to_json(document) == {"a": [{"b": [1]}], "name": "Link"}


@pytest.mark.parametrize(
    "name",
    ["tokens", "tokenOfPage", "TOKEN_2", "secretValue", "passwordHash", "key", "signingKeys",
     "Authorization2", "authHeader", "credentialsOld"],
)  # fmt: skip
@pytest.mark.parametrize("value", [RANDOM, "abcdefghIJKLMNOP", f"Basic {RANDOM}", b"\x00" * 16])
def test_random_texts_under_such_a_name_are_left_out(name: str, value: object) -> None:
    assert to_json({name: value, "a": 1}) == {"a": 1}
    assert to_json({name: {"page": value, "of": ["x", value]}}) == {name: {"of": ["x"]}}


@pytest.mark.parametrize(
    "document",
    [{"trigger": {"keywords": ["k3y9f0c2b7d84e61", "Bearer"], "keyword": RANDOM}},
     {"tokenUrl": "https://example.com/oauth/Token1"}, {"tokenExpiresAt": "2026-11-23T10:30:00Z"},
     {"keyFigures": "long_and_plain_words"}, {"keyMessage": "Two words with 16 letters"},
     {"tokenId": 17841400000000001}, {"sessionKeys": "17841400000000001"}, {"slug": RANDOM},
     {"text": "The bearer certificates, EAAs and https://example.com:8080/@name?utm_token"},
     {"text": f"EAA {RANDOM}, SEAABOARDCOMPANIES, user@example.com: https://example.com"}],
)  # fmt: skip
def test_what_is_no_credential_stays(document: dict[str, object]) -> None:
    assert to_json(document) == document


@pytest.mark.parametrize(
    "text", ["eyJ", "EAA", "a", "A", "1", "Bearer ", "://a:", "-----BEGIN A", "_token", "IGAA-"]
)
def test_no_text_takes_long_to_look_at(text: str) -> None:
    started = time.process_time()
    for long in (text * 100_000, f"{text}\n" * 30_000):
        to_json({"note": long, "keys": [long]})
    assert time.process_time() - started < 1


@pytest.mark.parametrize("name", ["tokens", "secretSanta", "keywords", "passwordless", "name"])
def test_other_names_stay(name: str) -> None:
    assert to_json({name: 1}) == {name: 1}


def test_an_older_products_stats_never_stand_for_ours() -> None:
    document = {"_id": 7, "stats": {"views": 1}, "totalRuns": float("nan"), "lastRunAt": "monday"}
    answer = build_automation(document, RunSummary(3, None), has_stats=False)
    assert answer == {"_id": "7", "totalRuns": 3, "lastRunAt": None}


def test_the_renderer_survives_what_orjson_refuses() -> None:
    render = OrjsonRenderer().render
    assert json.loads(render({"a": "\ud800", "b": 2**70}))["b"] == 2**70
    assert render({"at": NOON}) == b'{"at":"2026-11-23T10:30:00.123Z"}'
    assert render(None) == b""


bson_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.binary()
    | st.integers(-(2**63), 2**63 - 1)
    | st.datetimes(timezones=st.just(UTC))
    | st.binary(min_size=12, max_size=12).map(ObjectId)
    | st.decimals(allow_nan=True, places=3, min_value=-(10**20), max_value=10**20).map(Decimal128)
    | st.integers(0, 2**32 - 1).map(lambda seconds: Timestamp(seconds, 0))
    | st.builds(Binary, st.binary(), st.integers(0, 255).filter(lambda subtype: subtype != 2)),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_characters="\0", codec="utf-8")), inner,
                      max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(bson_values)
def test_whatever_bson_decodes_is_shown(value: object) -> None:
    document = bson.decode(
        bson.encode({"_id": 1, "value": value}), bson.CodecOptions(tz_aware=True)
    )
    answer = build_automation(document, RunSummary(0, None), has_stats=False)
    orjson.dumps(answer)  # plain JSON types only: no `default` is needed

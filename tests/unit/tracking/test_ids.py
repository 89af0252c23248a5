"""The text forms of ids, and what an id may be stored as whose text somebody names."""

from typing import Any
from urllib.parse import quote
from uuid import UUID

import bson
import pytest
from bson import Binary, ObjectId, Regex

from tests.support.odd_documents import IDS
from tracking.ids import list_stored_forms, name_id

HEX = "65f000000000000000000001"
DIGITS = "123456789012345678901234"
PERSON = UUID("65f0c0ff-ee65-40c0-8fee-65f0c0ffee65")


def to_bytes(key: Any) -> bytes:
    return bson.encode({"": key})


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ("a1", []),
        (HEX, [ObjectId(HEX)]),
        (DIGITS, [ObjectId(DIGITS)]),
        ("42", [42]),
        ("-7", [-7]),
        ("9" * 18, [int("9" * 18)]),
        ("9" * 19, []),
        ("042", []),
        ("٤٢", []),
        ("--1", []),
        (str(PERSON), [Binary.from_uuid(PERSON)]),
        ("", []),
        ("~", []),
        ("~AAAA", []),
        (name_id("a/b"), ["a/b"]),
        (name_id("a/b") + "A", []),
        # They would be conditions of a query.
        (name_id({"$gt": ""}), []),
        (name_id(Regex("a")), []),
        (name_id(["a"]), []),
    ],
)
def test_a_text_stands_for_every_type_that_an_id_may_have(text: str, others: list[Any]) -> None:
    assert list_stored_forms(text) == [text, *others]


@pytest.mark.parametrize("key", IDS, ids=repr)
def test_an_id_of_any_type_has_one_text_that_finds_it_again(key: Any) -> None:
    text = name_id(key)
    assert text
    assert "/" not in text
    assert text.isprintable()
    assert quote(text.replace("é ?#%&", "a")) == text.replace("é ?#%&", "a")
    found = list_stored_forms(text)[-1]
    assert to_bytes(found) == to_bytes(key) or found == int(str(key).removesuffix(".0"))


def test_no_two_ids_share_a_text() -> None:
    assert len({name_id(key) for key in IDS}) == len(IDS)


@pytest.mark.parametrize(
    ("key", "text"),
    [(ObjectId(HEX), HEX), (HEX, HEX), ("a1", "a1"), (42, "42"), (42.0, "42"),
     (bson.Int64(42), "42"), (bson.Decimal128("42"), "42"), (PERSON, str(PERSON)),
     (Binary.from_uuid(PERSON), str(PERSON))],
)  # fmt: skip
def test_what_live_databases_and_urls_hold_stays_as_it_is(key: Any, text: str) -> None:
    assert name_id(key) == text

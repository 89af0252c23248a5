"""What an id may be stored as whose text somebody names."""

from typing import Any

import pytest
from bson import ObjectId

from tracking.ids import list_stored_forms

HEX = "65f000000000000000000001"
DIGITS = "123456789012345678901234"


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
        ("٤٢", []),
        ("--1", []),
        ("", []),
    ],
)
def test_a_text_stands_for_every_type_that_an_id_may_have(text: str, others: list[Any]) -> None:
    assert list_stored_forms(text) == [text, *others]

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automations.rules.automation import normalise_text
from automations.rules.matching import has_word


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[("", ""), (" \t\n ", ""), ("PRICE", "price"), ("ＰＲＩＣＥ", "price")],
        ("  What \t is\n\nthe   price ", "what is the price"),
        ("what\u00a0is\u2003it", "what is it"),
        ("\u3000full\u3000width\u3000", "full width"),
        ("STRASSE straße", "strasse strasse"),
        ("e\u0301te\u0301", "été"),
        ("ΣΊΣΥΦΟΣ σίσυφος", "σίσυφοσ σίσυφοσ"),
        ("\u200b \u00ad\ufe0f\u0640\u064e\u200f", ""),
        *[("ﬁne", "fine"), ("①", "1"), ("🔥", "🔥"), ("a\0b", "a\0b")],
    ],
)
def test_texts_are_compared_in_one_form(text: str, expected: str) -> None:
    assert normalise_text(text) == expected


# Each line is one text, as phones and keyboards type it.
SAME = [
    ("fiyat", "FİYAT", "FI\u0307YAT", "fi\u0307yat", "Fi\u00adyat"),
    ("link", "LİNK", "Link\u200b", "\u200elink\u200f", "\ufefflink", "l\u2060ink", "ＬＩＮＫ"),
    ("link", "\u202alink\u202c", "\u2066link\u2069", "li\u034fnk", "li\u200c\u200dnk"),
    ("❤", "❤\ufe0f", "❤\ufe0e"),
    ("👨\u200d👩\u200d👧", "👨👩👧"),
    ("葛", "葛\U000e0100"),
    ("السعر", "السـعر", "السِّعْرُ", "الســــــعر", "\u061cالسعر", "\u200fالسعر"),
    ("كم", "كَمْ", "ﻛﻢ"),
    ("أهلا", "ا\u064e\u0654هلا", "أَهْلًا"),
    ("می\u200cخواهم", "میخواهم"),
    ("é", "e\u200d\u0301", "E\u0301"),
    ("가", "\u1100\u1161", "가\u3164", "\uffa0가"),
    ("ᠮᠣ", "ᠮ\u180bᠣ\u180e"),
]


@pytest.mark.parametrize("texts", SAME, ids=lambda texts: texts[0])
def test_what_is_invisible_makes_no_difference(texts: tuple[str, ...]) -> None:
    assert len({normalise_text(text) for text in texts}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [("fiyat", "fıyat"), ("كم", "كن"), ("ا", "أ"), ("q\u0307", "q"), ("é", "e"), ("a b", "ab")],
)
def test_what_people_see_makes_a_difference(one: str, other: str) -> None:
    assert normalise_text(one) != normalise_text(other)


UNSEEN = "\u00ad\u200b\u200d\u0640\u064e\ufe0f\u0307\u0345\u0301iİIıſςΣ\u1fb3\ufe71\ufdfa "


@settings(deadline=None, max_examples=300)
@given(st.text() | st.text(alphabet=UNSEEN), st.sampled_from("\u200b\u00ad\u200e\ufeff"))
def test_a_normalised_text_is_normal(text: str, unseen: str) -> None:
    once = normalise_text(text)
    assert normalise_text(once) == once
    assert normalise_text(unseen + text + unseen) == once


@pytest.mark.parametrize(
    ("word", "texts"),
    [
        ("price", ["price", "price please", "the price", "(price)?", "reprice, price"]),
        ("price", ["price-list"]),
        ("price list", ["send me the price list"]),
        ("- -", ["x- - -"]),
        ("c++", ["c++ or c"]),
        ("ça", ["ça va"]),
        ("сколько", ["сколько стоит?"]),
        ("🔥", ["🔥", "🔥🔥🔥", "so good 🔥!"]),
        ("❤", ["so ❤\ufe0f"]),
        ("👍", ["👍🏽"]),
        ("हिन्दी", ["हिन्दी में"]),
    ],
)
def test_a_word_stands_alone(word: str, texts: list[str]) -> None:
    assert [one for one in texts if not has_word(normalise_text(one), normalise_text(word))] == []


@pytest.mark.parametrize(
    ("word", "texts"),
    [
        ("price", ["", "prices", "reprice", "price_list", "price2", "priceless reprice"]),
        ("price list", ["the price is"]),
        ("t", ["été"]),
        ("🔥", ["go🔥"]),
        ("क", ["कि"]),
        ("q", ["q\u0307"]),
    ],
)
def test_a_part_of_a_word_is_no_word(word: str, texts: list[str]) -> None:
    assert [text for text in texts if has_word(text, word)] == []

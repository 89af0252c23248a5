import pytest

from automations.rules.automation import normalise_text
from automations.rules.matching import has_word


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (" \t\n ", ""),
        ("PRICE", "price"),
        ("  What \t is\n\nthe   price ", "what is the price"),
        ("what\u00a0is\u2003it", "what is it"),
        ("\u3000full\u3000width\u3000", "full width"),
        ("ＰＲＩＣＥ", "price"),
        ("ﬁne", "fine"),
        ("STRASSE straße", "strasse strasse"),
        ("e\u0301te\u0301", "été"),
        ("ΣΊΣΥΦΟΣ σίσυφος", "σίσυφοσ σίσυφοσ"),
        ("①", "1"),
        ("🔥", "🔥"),
        ("a\0b", "a\0b"),
    ],
)
def test_texts_are_compared_in_one_form(text: str, expected: str) -> None:
    assert normalise_text(text) == expected


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("price", "price"),
        ("price please", "price"),
        ("the price", "price"),
        ("(price)?", "price"),
        ("reprice, price", "price"),
        ("x- - -", "- -"),
        ("price-list", "price"),
        ("send me the price list", "price list"),
        ("c++ or c", "c++"),
        ("ça va", "ça"),
        ("сколько стоит?", "сколько"),
        ("🔥", "🔥"),
        ("🔥🔥🔥", "🔥"),
        ("so good 🔥!", "🔥"),
        ("so ❤\ufe0f", "❤"),
        ("👍🏽", "👍"),
        ("हिन्दी में", "हिन्दी"),
    ],
)
def test_a_word_stands_alone(text: str, word: str) -> None:
    assert has_word(text, word)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "price"),
        ("prices", "price"),
        ("reprice", "price"),
        ("price_list", "price"),
        ("price2", "price"),
        ("priceless reprice", "price"),
        ("the price is", "price list"),
        ("été", "t"),
        ("go🔥", "🔥"),
        ("कि", "क"),
        ("q\u0307", "q"),
    ],
)
def test_a_part_of_a_word_is_no_word(text: str, word: str) -> None:
    assert not has_word(text, word)

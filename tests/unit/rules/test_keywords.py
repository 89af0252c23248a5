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
    assert [text for text in texts if not has_word(text, word)] == []


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

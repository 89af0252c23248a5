"""How a person's text is compared with a keyword."""

import unicodedata

# An emoji may be followed by one of these to choose its look; they are no part of a word.
VARIATION_SELECTORS = frozenset(map(chr, range(0xFE00, 0xFE10)))


def normalise_text(text: str) -> str:
    """Return `text` in the form in which texts are compared.

    NFKC, casefold, trimmed, every run of white space one space.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def has_word(text: str, word: str) -> bool:
    r"""Return whether `word` stands in `text` as a word of its own.

    Both are normalised. `word` may hold several words, or emoji. As in `(?<!\w)word(?!\w)`, but
    vowel signs and other combining marks belong to the word they are written on, which `\w` does
    not know: "क" is no word of its own in "कि".
    """
    start = text.find(word)
    while start >= 0:
        end = start + len(word)
        if not (_is_in_word(text, start - 1) or _is_in_word(text, end)):
            return True
        start = text.find(word, start + 1)
    return False


def _is_in_word(text: str, index: int) -> bool:
    if not 0 <= index < len(text):
        return False
    character = text[index]
    if character.isalnum() or character == "_":
        return True
    return (
        not character.isascii()
        and character not in VARIATION_SELECTORS
        and unicodedata.category(character) in {"Mn", "Mc"}
    )

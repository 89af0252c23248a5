"""Ids, names and texts that look like Instagram's, all a function of numbers (pure)."""

import base64
from collections.abc import Sequence
from random import Random

# A prime that shares no factor with a power of ten: multiplying by it and taking the remainder
# visits every id once, so that ids of one seed never collide and look random.
_STRIDE = 2_654_435_761

# fmt: off
_FIRST = (
    "mia", "noah", "lena", "amir", "chloe", "diego", "yuki", "sofia", "ravi", "emma", "luca",
    "zoe", "ana", "omar", "ines", "kai", "nora", "tom", "priya", "jonas", "aylin", "marta",
)
_SECOND = (
    "travels", "reads", "runs", "bakes", "paints", "official", "and.co", "studio", "fit",
)
_ASKS = (
    "{kw}", "{KW}", "{kw} please", "{kw} 🙏", "me please! {kw}", "hi, {kw}?",
    "can I get the {kw}, thanks 😍", "{Kw}!!", "love this so much, {kw}",
)
# Under `exact` the whole text is the keyword; case and outer space do not matter.
_EXACT_ASKS = ("{kw}", "{KW}", " {kw} ", "{Kw}")
_CHATTER = (
    "so pretty 😍", "this made my day", "wow", "🔥🔥🔥", "where was this taken?",
    "@lena.reads look at this", "haha same", "ça donne envie !", "süß 💛", "congratulations!!",
    "first", "omg yes",
)
# fmt: on


def make_random(*parts: object) -> Random:
    """Return a generator that these parts alone decide, the same on every machine."""
    return Random(":".join(map(str, parts)))  # noqa: S311 - test traffic, nothing to guess


class Ids:
    """Ids of one seed, each handed out once."""

    def __init__(self, seed: int) -> None:
        self._offset = make_random("ids", seed).randrange(10**15)
        self._count = 0

    def _next(self) -> int:
        self._count += 1
        return (self._offset + self._count * _STRIDE) % 10**15

    def make_comment_id(self) -> str:
        return f"18{self._next():015}"

    def make_mid(self, account_id: str) -> str:
        number = self._next()
        inner = f"ig_dm_item:1:IGMessageID:{account_id}:{number * 340282 + 366841}:32{number:015}"
        return base64.urlsafe_b64encode(inner.encode()).decode().rstrip("=") + "ZD"

    def make_person(self, account_id: str, number: int) -> tuple[str, str]:
        """Return the id (16 digits, scoped to the account) and the name of its person `number`."""
        scope = sum(account_id.encode()) * 1_000_003
        user_id = str(10**15 + (self._offset + scope + number * _STRIDE) % (9 * 10**15))
        first = _FIRST[number % len(_FIRST)]
        second = _SECOND[number // len(_FIRST) % len(_SECOND)]
        return user_id, f"{first}.{second}{number % 97}"


def make_ask(rng: Random, *, keywords: Sequence[str], match: str) -> str:
    """Return a text that an automation with these keywords answers."""
    if match == "any" or not keywords:
        return rng.choice(_CHATTER)
    keyword = rng.choice(keywords)
    pattern = rng.choice(_EXACT_ASKS if match == "exact" else _ASKS)
    return pattern.format(kw=keyword, KW=keyword.upper(), Kw=keyword.capitalize())


def find_chatter(avoid: set[str]) -> tuple[str, ...]:
    """Return the texts that hold none of the words of `avoid`."""
    words = [word.casefold() for word in avoid if word.strip()]
    return tuple(text for text in _CHATTER if not any(word in text.casefold() for word in words))

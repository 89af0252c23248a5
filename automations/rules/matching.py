"""Which automation answers an event: the most specific, then the oldest."""

from collections.abc import Iterable
from datetime import UTC, datetime
from unicodedata import category

import msgspec

from automations.instagram.events import Event, EventType
from automations.rules.automation import MATCHES, Automation, normalise_text

# The type of automation that an event may start. A story reply or mention belongs to its own type
# alone: where no automation of it answers, a `dm_auto_responder` does not either.
AUTOMATION_TYPE_BY_EVENT_TYPE: dict[EventType, str] = {
    "comment": "comment_to_dm",
    "story_reply": "story_reply",
    "story_mention": "story_reply",
    "message": "dm_auto_responder",
}

_END_OF_TIME = datetime.max.replace(tzinfo=UTC)
_NONE = 1 << 62  # a rank after every other


class AccountRules:
    """The rules of one account, built once and asked for every event.

    Rules that name posts are asked before those for all posts. Among each, a rule's rank is its
    place in the order of winning: exact, word, contains, any; then the oldest `createdAt`, without
    one last; then the string `_id`.
    """

    def __init__(self, automations: Iterable[Automation]) -> None:
        self._automations = sorted(
            automations,
            key=lambda one: (MATCHES.index(one.match), one.created_at or _END_OF_TIME, one.id),
        )
        # By automation type: the rules for all posts, and those that name a post, by its id.
        self._general: dict[str, _Rules] = {}
        self._by_post: dict[str, dict[str, _Rules]] = {}
        for rank, automation in enumerate(self._automations):
            if not automation.post_ids:
                self._general.setdefault(automation.type, _Rules()).add(automation, rank)
            by_post = self._by_post.setdefault(automation.type, {})
            for post_id in automation.post_ids:
                by_post.setdefault(post_id, _Rules()).add(automation, rank)

    def match(self, event: Event) -> Automation | None:
        """Return the automation that answers `event`, or None.

        An event without text matches only `any`. A rule that names posts matches the comments
        under one of them, by `media.id` or `original_media_id`.
        """
        type_ = AUTOMATION_TYPE_BY_EVENT_TYPE[event.type]
        text = normalise_text(event.text) if event.text else ""
        rank = _NONE
        by_post = self._by_post.get(type_)
        if by_post:
            for media_id in event.media_ids:
                rules = by_post.get(media_id)
                if rules is not None:
                    rank = min(rank, rules.find_rank(text))
        if rank == _NONE:
            rules = self._general.get(type_)
            if rules is not None:
                rank = rules.find_rank(text)
        return None if rank == _NONE else self._automations[rank]


class _Rules:
    """Rules that differ only in their match, added in order of rank."""

    def __init__(self) -> None:
        self._exact: dict[str, int] = {}
        self._words: dict[str, int] = {}
        self._parts: dict[str, int] = {}
        self._any = _NONE

    def add(self, automation: Automation, rank: int) -> None:
        if automation.match == "any":
            self._any = min(self._any, rank)
            return
        by_match = {"exact": self._exact, "word": self._words, "contains": self._parts}
        for keyword in automation.keywords:
            # A keyword that a rule before it has never gets as far as this one.
            by_match[automation.match].setdefault(keyword, rank)

    def find_rank(self, text: str) -> int:
        """Return the lowest rank that matches a normalised text, or _NONE."""
        if text:
            rank = self._exact.get(text)
            if rank is not None:
                return rank
            # `in` alone tells most keywords apart, at a tenth of the price.
            for word, rank in self._words.items():
                if word in text and has_word(text, word):
                    return rank
            for part, rank in self._parts.items():
                if part in text:
                    return rank
        return self._any


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
    return character.isalnum() or character == "_" or category(character) in {"Mn", "Mc"}


class LoadedRules(msgspec.Struct, frozen=True):
    """An account's rules, a digest and the size of the bytes they are of, and how many are none."""

    rules: AccountRules
    digest: bytes = b""
    size: int = 0
    left_out: int = 0

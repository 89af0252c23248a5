"""What to simulate: whom the traffic is for, and what it is made of (pure)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from automations.rules.automation import parse_automation

# The word a person types -> the automation type that answers such an event.
AUTOMATION_TYPES = {
    "comment": "comment_to_dm",
    "dm": "dm_auto_responder",
    "story_reply": "story_reply",
}
KINDS = tuple(AUTOMATION_TYPES)
_KIND_OF_TYPE = {automation_type: kind for kind, automation_type in AUTOMATION_TYPES.items()}


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What one automation listens to: events of `kind` on the account, with one of the words.

    `match` is `contains`, `word`, `exact` or `any`; empty `post_ids` means every post.
    """

    kind: str
    account_id: str
    keywords: tuple[str, ...] = ()
    match: str = "contains"
    post_ids: tuple[str, ...] = ()


def build_targets(
    documents: Iterable[Mapping[str, Any]], *, kinds: Sequence[str] = KINDS
) -> tuple[Target, ...]:
    """Return one target for each automation document that can answer an event of `kinds`."""
    return tuple(
        Target(
            kind=_KIND_OF_TYPE[one.type],
            account_id=one.account_id,
            keywords=one.keywords,
            match=one.match,
            post_ids=tuple(sorted(one.post_ids)),
        )
        for one in map(parse_automation, documents)
        if one is not None and _KIND_OF_TYPE[one.type] in kinds
    )


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The make-up of the traffic. Targets take turns by chance, evenly."""

    targets: tuple[Target, ...]
    events: int | None = 200  # distinct ones, without redelivered and forged ones; None never ends
    batch: int | None = None  # events per delivery; None is a mix like Meta's, mostly one
    duplicates: float = 0.3  # events by a person who called the same automation within the hour
    redeliveries: float = 0.3  # deliveries again: as they were, shuffled, split, or merged
    bad_signatures: float = 0.0  # deliveries with events of their own that may never count
    misses: float = 0.1  # events whose text has none of the account's keywords
    text: str | None = None  # of every event; None makes texts out of the keywords
    seed: int = 0  # the same seed, targets and clock make the same deliveries, byte for byte


class SimulatedEvent(msgspec.Struct, frozen=True, kw_only=True):
    sim_kind: str  # a key of AUTOMATION_TYPES
    account_id: str
    event_id: str  # comment id or mid
    user_id: str
    username: str
    text: str
    media_id: str | None = None
    parent_id: str | None = None
    story_id: str | None = None
    at_ms: int = 0  # when it happened, milliseconds since 1970
    is_match: bool = True  # whether its text is meant to start the automation it was made for

    @property
    def kind(self) -> str:
        """The namespace of `event_id`: comment or message."""
        return "comment" if self.sim_kind == "comment" else "message"


class SimulatedDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """One POST of Meta's, before it is signed."""

    events: tuple[SimulatedEvent, ...]
    body: bytes
    is_redelivery: bool = False
    is_forged: bool = False

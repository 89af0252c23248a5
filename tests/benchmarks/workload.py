"""Automations and signed deliveries, the same for every candidate, built before the clock starts.

Comments in Meta's shape A, distinct people, texts and names of usual length. One account's events
of a delivery share an entry, up to 100 of them: the peer's fair mode works on an entry at a time.
"""

import hashlib
import hmac
import json
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

APP_SECRET = "benchmark-app-secret"
WEBHOOK_PATH = "/api/webhooks/instagram"
PER_ACCOUNT = 10
_ENTRY_EVENTS = 100
_HEAD = (
    f"POST {WEBHOOK_PATH} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: facebookexternalua\r\n"
    "Content-Type: application/json\r\nX-Hub-Signature-256: sha256=%s\r\n"
    "Content-Length: %d\r\n\r\n"
)
_COMMENT = (
    '{"field":"comments","value":{"id":"1785%013d","from":{"id":"1784%013d","username":"%s"},'
    '"media":{"id":"1790%013d","media_product_type":"FEED"},"text":%s}}'
)
_TEXTS = (
    "%s",
    "%s please!",
    "%s 🙏",
    "Hi! Could you send me the %s?",
    "I would love the %s ❤️❤️",
    "this looks amazing, %s me",
    "¡Qué bonito! %s por favor",
    "%s - saw it in your story yesterday and have been thinking about it ever since",
)
_NAMES = ("mia.travels", "noah_reads", "lena.bakes", "amir.films", "chloe_and.co", "yuki.paints")


Document = dict[str, Any]


class Delivery(NamedTuple):
    """A signed request, and the numbers of the people in it, one for each event."""

    request: bytes
    people: Sequence[int]


def build_automations(count: int, *, workspaces: int) -> list[Document]:
    """Return `count` active automations, ten to an account, with string `_id`s as the peer has."""
    made_at = datetime(2026, 1, 5, tzinfo=UTC)
    return [
        {
            "_id": f"automation-{number:04d}",
            "workspaceId": f"workspace-{number * workspaces // count}",
            "accountId": f"1784140{number // PER_ACCOUNT:010d}",
            "name": f"Send the guide {number}",
            "type": "comment_to_dm",
            # As long as each other, so that none is a part of another.
            "trigger": {"keywords": [f"guide{number % PER_ACCOUNT}"], "match": "contains"},
            "openingDm": {"text": "Thanks for your comment! Tap below and it is yours."},
            "isActive": True,
            "totalRuns": 0,
            "lastRunAt": None,
            "createdAt": made_at,
            "updatedAt": made_at,
        }
        for number in range(count)
    ]


class Workload:
    """Makes deliveries whose people and comments are never used twice by one workload."""

    def __init__(
        self, automations: list[Document], *, events: int, is_one: bool = False,
        first_person: int = 0,
    ) -> None:  # fmt: skip
        self.events = events
        self._automations = automations
        self._is_one = is_one  # every event on one automation
        self._person = self._comment = first_person
        self._account = 0
        self._rng = random.Random(20261123)

    def build(self, count: int) -> list[Delivery]:
        return [self._build(self._pick_people(), self._pick_accounts()) for _ in range(count)]

    def build_doubled(self, count: int) -> list[Delivery]:
        """Return `count` deliveries, half of their events duplicates.

        Of each two neighbours the second has the same people, who comment again on the same
        automation: while the first is still under way.
        """
        deliveries = []
        for _ in range(count // 2):
            people = self._pick_people()
            accounts = self._pick_accounts()
            deliveries.append(self._build(people, accounts))
            again = list(people)
            # Within an entry: the account, and so the automation, stays the same.
            for start in range(0, self.events, _ENTRY_EVENTS):
                part = again[start : start + _ENTRY_EVENTS]
                self._rng.shuffle(part)
                again[start : start + _ENTRY_EVENTS] = part
            deliveries.append(self._build(again, accounts))
        return deliveries

    def _pick_people(self) -> range:
        self._person += self.events
        return range(self._person - self.events, self._person)

    def _pick_accounts(self) -> list[int]:
        entries = -(-self.events // _ENTRY_EVENTS)
        if self._is_one:
            return [0] * entries
        self._account += entries
        accounts = len(self._automations) // PER_ACCOUNT
        return [one % accounts for one in range(self._account - entries, self._account)]

    def _build(self, people: Sequence[int], accounts: Sequence[int]) -> Delivery:
        now = int(time.time())
        entries = []
        for number, account in enumerate(accounts):
            part = people[number * _ENTRY_EVENTS : (number + 1) * _ENTRY_EVENTS]
            changes = ",".join([self._build_comment(person, account) for person in part])
            account_id = self._automations[account * PER_ACCOUNT]["accountId"]
            entries.append(f'{{"id":"{account_id}","time":{now},"changes":[{changes}]}}')
        text = f'{{"object":"instagram","entry":[{",".join(entries)}]}}'
        return Delivery(sign(text.encode("ascii")), people)

    def _build_comment(self, person: int, account: int) -> str:
        self._comment += 1
        # A person comments on one automation only: pairs are counted by the person.
        rule = 0 if self._is_one else person % PER_ACCOUNT
        [word] = self._automations[account * PER_ACCOUNT + rule]["trigger"]["keywords"]
        name = f"{_NAMES[person % len(_NAMES)]}{person % 9973}"
        text = json.dumps(pick_text(person, word=word))
        return _COMMENT % (self._comment, person, name, account * 31 + person % 12, text)


def pick_text(person: int, *, word: str) -> str:
    return _TEXTS[person // 7 % len(_TEXTS)] % word


def sign(body: bytes) -> bytes:
    signature = hmac.new(APP_SECRET.encode(), body, hashlib.sha256).hexdigest()
    return (_HEAD % (signature, len(body))).encode("ascii") + body


def count_people(deliveries: Sequence[Delivery], indices: Sequence[int]) -> int:
    """Return how many people there are in some of the deliveries: the runs there have to be."""
    people: set[int] = set()
    for index in indices:
        people.update(deliveries[index].people)
    return len(people)

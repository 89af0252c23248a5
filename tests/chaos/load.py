"""The traffic of a chaos run, never paused, and what must have become of it."""

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database

from automations.demo.simulation import (
    Plan,
    SimulatedDelivery,
    SimulatedEvent,
    Target,
    generate_deliveries,
)
from automations.demo.simulation.bodies import sign_body
from automations.demo.simulation.connection import Connection
from automations.demo.simulation.plan import AUTOMATION_TYPES
from automations.demo.simulation.sending import build_webhook_url
from automations.rules.store import parse_key
from tests.chaos.background import Background
from tests.support.oracle import recount, wait_until_counted
from tests.support.waiting import wait_until
from tests.support.webhook_cases import SECRET, build_automation
from tracking.ids import build_trigger_id
from tracking.mongo.indexes import apply_finding, compare_indexes, ensure_collections, list_indexes

ACCOUNTS = ("17841400000000001", "17841400000000002", "17841400000000003")
_TIMEOUT_SECONDS = 15.0
# After a delivery that nobody took: the load goes on, but does not burn through the events.
_PAUSE_SECONDS = 0.1
_PATIENCE_SECONDS = 60.0
_LAST = 100

Document = dict[str, Any]


@contextmanager
def open_database(uri: str) -> Iterator[Database[Document]]:
    """The database of a run, with every collection and index."""
    with MongoClient[Document](uri, tz_aware=True, w="majority", appname="chaos") as client:
        database = client.get_default_database()
        ensure_collections(database)
        for finding in compare_indexes(database, list_indexes(timedelta(days=90))):
            apply_finding(database, finding)
        yield database


def forget(database: Database[Document], automation_ids: Sequence[str]) -> None:
    """Delete what automations counted that are none of the load's."""
    for name in ("triggers", "runs", "contacts", "run_stats"):
        database[f"automation_{name}"].delete_many({"automationId": {"$in": automation_ids}})
    for key in automation_ids:
        database["automations"].delete_one({"_id": parse_key(key)})


class Load(Background):
    """Threads that post deliveries, `rate` events a second, until they are told to stop.

    Each delivery goes to one server and, when that fails, at once to the other, as Meta's first
    retry does. After that it is put aside. Every account has an automation for each kind of event.
    """

    def __init__(
        self, urls: Sequence[str], database: Database[Document], *, seed: int, connections: int,
        rate: float, accounts: Sequence[str] = ACCOUNTS,
    ) -> None:  # fmt: skip
        self.acknowledged: dict[tuple[str, str, str], SimulatedEvent] = {}
        self.acknowledged_at: list[float] = []
        self.took: list[float] = []
        self.put_aside: list[SimulatedDelivery] = []
        self.last: deque[SimulatedDelivery] = deque(maxlen=_LAST)
        self.answers: Counter[str] = Counter()
        self.slowest = 0.0
        targets = tuple(
            Target(kind=kind, account_id=account_id, keywords=("link",))
            for account_id in accounts
            for kind in AUTOMATION_TYPES
        )
        plan = Plan(targets=targets, events=None, seed=seed)  # duplicates, redeliveries
        self._deliveries: Iterator[SimulatedDelivery] = iter(generate_deliveries(plan))
        self._urls = urls
        self._database = database
        database["automations"].insert_many(
            build_automation(
                f"{one.account_id}-{one.kind}",
                accountId=one.account_id,
                type=AUTOMATION_TYPES[one.kind],
                trigger={"keywords": list(one.keywords)},
            )
            for one in targets
        )
        self._seed = seed
        self._rate = rate
        self._events_taken = 0
        self._lock = threading.Lock()
        super().__init__(*(partial(self._work, number) for number in range(connections)))

    @property
    def rude_answers(self) -> list[str]:
        """Answers that are neither yes, nor "later", nor the silence of a killed process."""
        return sorted(self.answers.keys() - {"200", "503", "none"})

    def wait_for(self, events: int) -> None:
        """Return once so many events are acknowledged.

        Raises TimeoutError when nothing moves, ValueError for an answer that is never right.
        """
        seen, seen_at = -1, time.monotonic()
        while (count := len(self.acknowledged)) < events:
            if count > seen:
                seen, seen_at = count, time.monotonic()
            if self.rude_answers:
                raise ValueError(f"Answered {', '.join(self.rude_answers)}; the logs say why.")
            if time.monotonic() - seen_at > _PATIENCE_SECONDS:
                raise TimeoutError(f"Nothing was acknowledged for {_PATIENCE_SECONDS:.0f} s.")
            time.sleep(0.02)

    def wait_for_more(self, events: int) -> None:
        self.wait_for(len(self.acknowledged) + events)

    def resend(self) -> None:
        """Send what was put aside twice more, and the last that were acknowledged, shuffled."""
        again = [*self.put_aside, *self.put_aside, *self.last]
        Random(f"resend:{self._seed}").shuffle(again)
        connections = self._connect()
        for turn, delivery in enumerate(again):
            wait_until(partial(self._post, delivery, connections, turn), seconds=_PATIENCE_SECONDS)
        for connection in connections:
            connection.close()

    def recount(self, *, window: timedelta) -> list[str]:
        wait_until_counted(self._database)
        acknowledged = {
            build_trigger_id(event.account_id, event.kind, event.event_id): (
                f"{event.account_id}-{event.sim_kind}",
                event.user_id,
            )
            for event in self.acknowledged.values()
            if event.is_match
        }
        return recount(self._database, window=window, acknowledged=acknowledged)

    def build_figures(self) -> dict[str, object]:
        answers = sorted(self.answers.items())
        return {
            "answers": ", ".join(f"{status} {count}" for status, count in answers),
            "acknowledged": f"{len(self.acknowledged)} events",
            "slowest": f"{self.slowest:.2f} s to an answer",
        }

    def _work(self, number: int) -> None:
        connections = self._connect()
        turn = number
        while not self.stopping.is_set():
            delivery = self._take()
            turn += 1
            if not self._post(delivery, connections, turn):
                with self._lock:
                    self.put_aside.append(delivery)
                self.stopping.wait(_PAUSE_SECONDS)
        for connection in connections:
            connection.close()

    def _connect(self) -> list[Connection]:
        return [Connection(build_webhook_url(url), timeout=_TIMEOUT_SECONDS) for url in self._urls]

    def _take(self) -> SimulatedDelivery:
        """Return the next delivery when it is due; what is late comes all at once."""
        with self._lock:
            delivery = next(self._deliveries)
            due_at = self.started_at + self._events_taken / self._rate
            self._events_taken += len(delivery.events)
        self.stopping.wait(max(due_at - time.monotonic(), 0.0))
        return delivery

    def _post(self, delivery: SimulatedDelivery, connections: list[Connection], turn: int) -> bool:
        signature = sign_body(delivery.body, SECRET)
        for offset in range(len(connections)):
            connection = connections[(turn + offset) % len(connections)]
            began = time.monotonic()
            try:
                status = str(connection.post(delivery.body, signature=signature).status)
            except OSError:
                status = "none"
            self._note(delivery, status, began)
            if status == "200":
                return True
        return False

    def _note(self, delivery: SimulatedDelivery, status: str, began: float) -> None:
        now = time.monotonic()
        with self._lock:
            self.answers[status] += 1
            if status != "none":
                self.slowest = max(self.slowest, now - began)
            if status == "200":
                self.acknowledged_at.append(now)
                self.took.append(now - began)
                self.last.append(delivery)
                for event in delivery.events:
                    self.acknowledged[event.account_id, event.kind, event.event_id] = event

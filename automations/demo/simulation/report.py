"""What came back from a simulation, in figures (pure)."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Any

import msgspec

from automations.demo.simulation.plan import KINDS, SimulatedDelivery, SimulatedEvent

PERCENTILES = (50, 95, 99)


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds from sending a delivery to its answer, over all answers."""

    p50: float
    p95: float
    p99: float
    max: float


class KindFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Distinct events of one kind."""

    sent: int
    acknowledged: int


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """The runs of an automation before and after; what others did meanwhile is in it."""

    id: str
    name: str
    before: int
    after: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was sent and what came back.

    A delivery is acknowledged by a 2xx answer, refused by another answer, and failed without one;
    `statuses` counts the last answer of each. Forged deliveries are counted apart.
    """

    seed: int
    seconds: float
    deliveries: int
    redeliveries: int
    forged: int
    forged_accepted: int
    retries: int
    events_posted: int  # copies included, forged ones not
    statuses: dict[str, int]
    kinds: dict[str, KindFigures]
    latency_ms: Latency | None
    # Filled when the run was asked to keep them; otherwise the counts of `kinds` are those of
    # first deliveries alone.
    acknowledged: tuple[SimulatedEvent, ...] = ()
    unacknowledged: tuple[SimulatedDelivery, ...] = ()

    @property
    def events_sent(self) -> int:
        """Distinct events sent with a right signature."""
        return sum(figures.sent for figures in self.kinds.values())

    @property
    def events_acknowledged(self) -> int:
        """Distinct events that at least one 2xx answer stands for."""
        return sum(figures.acknowledged for figures in self.kinds.values())

    @property
    def events_per_second(self) -> float:
        """Events posted, copies included, by the second."""
        return self.events_posted / self.seconds if self.seconds else 0.0

    @property
    def is_as_expected(self) -> bool:
        """Whether every event was acknowledged and no forged delivery was."""
        return self.events_acknowledged == self.events_sent and not self.forged_accepted

    def to_json(self) -> dict[str, Any]:
        """Return the figures, without the events, as one plain object."""
        latency = None if self.latency_ms is None else msgspec.to_builtins(self.latency_ms)
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 3),
            "deliveries": self.deliveries,
            "redeliveries": self.redeliveries,
            "retries": self.retries,
            "statuses": self.statuses,
            "forged": {"sent": self.forged, "accepted": self.forged_accepted},
            "events": {
                "sent": self.events_sent,
                "acknowledged": self.events_acknowledged,
                "posted": self.events_posted,
                "perSecond": round(self.events_per_second, 1),
            },
            "kinds": msgspec.to_builtins(self.kinds),
            "latencyMs": latency,
        }


class Tally:
    """One sender's running figures; `build_report` adds those of all senders up."""

    def __init__(self, *, keep_events: bool) -> None:
        self.keep_events = keep_events
        self.statuses: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.latencies_ms = array("d")
        self.acknowledged: dict[tuple[str, str, str], SimulatedEvent] = {}
        self.unacknowledged: list[SimulatedDelivery] = []

    def add(self, delivery: SimulatedDelivery, *, status: str, retries: int) -> None:
        """Note the last answer to a delivery: a status code, or the name of what went wrong."""
        is_acknowledged = status.startswith("2")
        self.counts["retries"] += retries
        if delivery.is_forged:
            self.counts["forged"] += 1
            self.counts["forged_accepted"] += is_acknowledged
            return
        self.statuses[status] += 1
        self.counts["deliveries"] += 1
        self.counts["redeliveries"] += delivery.is_redelivery
        self.counts["events_posted"] += len(delivery.events)
        if not delivery.is_redelivery:
            self.sent.update(event.sim_kind for event in delivery.events)
            if is_acknowledged:
                self.answered.update(event.sim_kind for event in delivery.events)
        if not self.keep_events:
            return
        if is_acknowledged:
            for event in delivery.events:
                self.acknowledged[event.account_id, event.kind, event.event_id] = event
        else:
            self.unacknowledged.append(delivery)


def build_report(tallies: list[Tally], *, seed: int, seconds: float) -> Report:
    """Return the sum of all tallies."""
    counts: Counter[str] = sum((tally.counts for tally in tallies), Counter())
    statuses: Counter[str] = sum((tally.statuses for tally in tallies), Counter())
    sent: Counter[str] = sum((tally.sent for tally in tallies), Counter())
    answered: Counter[str] = sum((tally.answered for tally in tallies), Counter())
    acknowledged: dict[tuple[str, str, str], SimulatedEvent] = {}
    for tally in tallies:
        acknowledged |= tally.acknowledged
    if any(tally.keep_events for tally in tallies):
        answered = Counter(event.sim_kind for event in acknowledged.values())
    return Report(
        seed=seed,
        seconds=seconds,
        deliveries=counts["deliveries"],
        redeliveries=counts["redeliveries"],
        forged=counts["forged"],
        forged_accepted=counts["forged_accepted"],
        retries=counts["retries"],
        events_posted=counts["events_posted"],
        statuses=dict(sorted(statuses.items())),
        kinds={
            kind: KindFigures(sent=sent[kind], acknowledged=answered[kind])
            for kind in KINDS
            if sent[kind] or answered[kind]
        },
        latency_ms=_build_latency(sorted(ms for tally in tallies for ms in tally.latencies_ms)),
        acknowledged=tuple(acknowledged.values()),
        unacknowledged=tuple(one for tally in tallies for one in tally.unacknowledged),
    )


def _build_latency(ordered: list[float]) -> Latency | None:
    if not ordered:
        return None
    p50, p95, p99 = (
        round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 2)
        for percent in PERCENTILES
    )
    return Latency(p50=p50, p95=p95, p99=p99, max=round(ordered[-1], 2))

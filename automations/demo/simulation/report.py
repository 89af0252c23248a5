"""What came back from a simulation, in figures."""

from collections import Counter
from typing import Any

import msgspec

from automations.demo.simulation.plan import KINDS, SimulatedDelivery

# By name: how many per cent of the answers came faster.
_LATENCIES = {"p50": 50, "p95": 95, "p99": 99, "max": 100}


class Report(msgspec.Struct, kw_only=True):
    """What was sent and what came back; `add` is not thread safe.

    A delivery is acknowledged by a 2xx answer, refused by another answer, and failed without one;
    `statuses` counts the last answer of each. Events are acknowledged with their first delivery.
    Forged deliveries are counted apart.
    """

    seed: int
    seconds: float = 0.0
    deliveries: int = 0
    redeliveries: int = 0
    forged: int = 0
    forged_accepted: int = 0
    retries: int = 0
    events_posted: int = 0  # copies included, forged ones not
    statuses: Counter[str] = msgspec.field(default_factory=Counter)
    latencies_ms: list[float] = []
    # Events by kind.
    sent: Counter[str] = msgspec.field(default_factory=Counter)
    acknowledged: Counter[str] = msgspec.field(default_factory=Counter)

    def add(self, delivery: SimulatedDelivery, *, status: str, retries: int) -> None:
        """Count the last answer to a delivery: a status code, or the name of a failure."""
        is_acknowledged = status.startswith("2")
        self.retries += retries
        if delivery.is_forged:
            self.forged += 1
            self.forged_accepted += is_acknowledged
            return
        self.statuses[status] += 1
        self.deliveries += 1
        self.redeliveries += delivery.is_redelivery
        self.events_posted += len(delivery.events)
        if not delivery.is_redelivery:
            kinds = [event.sim_kind for event in delivery.events]
            self.sent.update(kinds)
            self.acknowledged.update(kinds if is_acknowledged else ())

    @property
    def is_as_expected(self) -> bool:
        """Whether every event was acknowledged and no forged delivery was."""
        return self.acknowledged == self.sent and not self.forged_accepted

    def to_json(self) -> dict[str, Any]:
        ordered, last = sorted(self.latencies_ms), len(self.latencies_ms) - 1
        places = {name: min(last, len(ordered) * part // 100) for name, part in _LATENCIES.items()}
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 3),
            "deliveries": self.deliveries,
            "redeliveries": self.redeliveries,
            "retries": self.retries,
            "statuses": dict(sorted(self.statuses.items())),
            "forged": {"sent": self.forged, "accepted": self.forged_accepted},
            "events": {
                "sent": self.sent.total(),
                "acknowledged": self.acknowledged.total(),
                "posted": self.events_posted,
                "perSecond": round(self.events_posted / self.seconds, 1) if self.seconds else 0.0,
            },
            "kinds": {
                kind: {"sent": self.sent[kind], "acknowledged": self.acknowledged[kind]}
                for kind in KINDS
                if self.sent[kind]
            },
            "latencyMs": {name: round(ordered[place], 2) for name, place in places.items()}
            if ordered
            else None,
        }

    def list_lines(self) -> list[str]:
        figures = self.to_json()
        events, forged = figures["events"], figures["forged"]
        kinds = (f"{kind} {one['acknowledged']:,}" for kind, one in figures["kinds"].items())
        answers = (f"{status} x {count:,}" for status, count in figures["statuses"].items())
        times = (f"{name} {ms:.1f} ms" for name, ms in (figures["latencyMs"] or {}).items())
        lines = {
            "events": f"{events['acknowledged']:,} of {events['sent']:,} acknowledged",
            "kinds": ", ".join(kinds),
            "deliveries": f"{self.deliveries:,} ({self.redeliveries:,} of them redeliveries)",
            "answers": ", ".join(answers),
            "retries": f"{self.retries:,}",
            "forged": self.forged and f"{forged['accepted']:,} of {forged['sent']:,} accepted",
            "latency": ", ".join(times),
            "speed": f"{events['perSecond']:,.0f} events/s, copies included "
            f"({self.events_posted:,} in {self.seconds:.1f} s)",
            "seed": str(self.seed),
        }
        return [f"{name}: {text}" for name, text in lines.items() if text]

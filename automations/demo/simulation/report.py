"""What came back from a simulation, in figures."""

from collections import Counter
from typing import Any

import msgspec

from automations.demo.simulation.plan import KINDS, SimulatedDelivery, SimulatedEvent


class Report(msgspec.Struct, kw_only=True):
    """What was sent and what came back; `add` is not thread safe.

    A delivery is acknowledged by a 2xx answer, refused by another answer, and failed without one;
    `statuses` counts the last answer of each. Forged deliveries are counted apart.
    """

    seed: int
    # Keeps every acknowledged event and unacknowledged delivery; otherwise events count as
    # acknowledged by their first delivery alone.
    keep_events: bool
    seconds: float = 0.0
    deliveries: int = 0
    redeliveries: int = 0
    forged: int = 0
    forged_accepted: int = 0
    retries: int = 0
    events_posted: int = 0  # copies included, forged ones not
    statuses: Counter[str] = msgspec.field(default_factory=Counter)
    latencies_ms: list[float] = []
    unacknowledged: list[SimulatedDelivery] = []
    _sent: Counter[str] = msgspec.field(default_factory=Counter)
    _acknowledged: Counter[str] = msgspec.field(default_factory=Counter)
    _events: dict[tuple[str, str, str], SimulatedEvent] = {}

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
        kinds = [event.sim_kind for event in delivery.events]
        if not delivery.is_redelivery:
            self._sent.update(kinds)
        if not self.keep_events:
            if is_acknowledged and not delivery.is_redelivery:
                self._acknowledged.update(kinds)
        elif not is_acknowledged:
            self.unacknowledged.append(delivery)
        else:
            for event in delivery.events:
                key = (event.account_id, event.kind, event.event_id)
                self._acknowledged[event.sim_kind] += key not in self._events
                self._events[key] = event

    @property
    def acknowledged(self) -> tuple[SimulatedEvent, ...]:
        """The acknowledged events, each once, when they are kept."""
        return tuple(self._events.values())

    @property
    def kinds(self) -> dict[str, dict[str, int]]:
        return {
            kind: {"sent": self._sent[kind], "acknowledged": self._acknowledged[kind]}
            for kind in KINDS
            if self._sent[kind] or self._acknowledged[kind]
        }

    @property
    def latency_ms(self) -> dict[str, float] | None:
        """Percentiles of the time from a delivery to its answer, over all answers."""
        ordered = sorted(self.latencies_ms)
        if not ordered:
            return None
        last = len(ordered) - 1
        places = {f"p{one}": min(last, len(ordered) * one // 100) for one in (50, 95, 99)}
        return {name: round(ordered[place], 2) for name, place in (places | {"max": last}).items()}

    @property
    def events_sent(self) -> int:
        return self._sent.total()

    @property
    def events_acknowledged(self) -> int:
        return self._acknowledged.total()

    @property
    def is_as_expected(self) -> bool:
        """Whether every event was acknowledged and no forged delivery was."""
        return self.events_acknowledged == self.events_sent and not self.forged_accepted

    def to_json(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 3),
            "deliveries": self.deliveries,
            "redeliveries": self.redeliveries,
            "retries": self.retries,
            "statuses": dict(sorted(self.statuses.items())),
            "forged": {"sent": self.forged, "accepted": self.forged_accepted},
            "events": {
                "sent": self.events_sent,
                "acknowledged": self.events_acknowledged,
                "posted": self.events_posted,
                "perSecond": round(self.events_posted / self.seconds, 1) if self.seconds else 0.0,
            },
            "kinds": self.kinds,
            "latencyMs": self.latency_ms,
        }

    def list_lines(self) -> list[str]:
        """Return the figures as lines for people."""
        speed = self.events_posted / self.seconds if self.seconds else 0.0
        kinds = (f"{kind} {one['acknowledged']:,}" for kind, one in self.kinds.items())
        answers = (f"{status} x {count:,}" for status, count in sorted(self.statuses.items()))
        times = (f"{name} {ms:.1f} ms" for name, ms in (self.latency_ms or {}).items())
        lines = {
            "events": f"{self.events_acknowledged:,} of {self.events_sent:,} acknowledged",
            "kinds": ", ".join(kinds),
            "deliveries": f"{self.deliveries:,} ({self.redeliveries:,} of them redeliveries)",
            "answers": ", ".join(answers),
            "retries": f"{self.retries:,}",
            "forged": self.forged and f"{self.forged_accepted:,} of {self.forged:,} accepted",
            "latency": ", ".join(times),
            "speed": f"{speed:,.0f} events/s, copies included "
            f"({self.events_posted:,} in {self.seconds:.1f} s)",
            "seed": str(self.seed),
        }
        return [f"{name}: {text}" for name, text in lines.items() if text]

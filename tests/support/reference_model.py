"""What a perfect counter would hold: one event after the other, no batches, no clock, no crash.

The model of the promises I1-I4 and I8, too simple to be wrong: it scans lists, and knows nothing of
the system that is compared with it.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Run:
    """A run of ours, or of an older product if it names no event."""

    automation: str
    person: str
    at: datetime
    event: str | None = None


@dataclass(frozen=True)
class Decided:
    """What became of an event; `run` is the one that counts it or that it duplicates, if any."""

    automation: str
    person: str
    at: datetime
    outcome: str
    run: Run | None


@dataclass
class ReferenceModel:
    """All events and runs so far, and what each automation had before us."""

    window: timedelta
    runs: list[Run] = field(default_factory=list)
    events: dict[str, Decided] = field(default_factory=dict)
    stored_totals: dict[str, int] = field(default_factory=dict)

    def record(
        self, event: str, automation: str, person: str, at: datetime, *, is_tap: bool = False
    ) -> str:
        """Count one event, in the order in which they are counted, and return its outcome."""
        if event in self.events:
            return "redelivered"
        if is_tap:
            self.events[event] = Decided(automation, person, at, "continuation", None)
            return "continuation"
        mine = [run for run in self.list_runs(automation) if run.person == person]
        near = next((run for run in mine if abs(run.at - at) <= self.window), None)
        outcome = "counted" if near is None else "duplicate"
        if near is None:
            near = Run(automation, person, at, event)
            self.runs.append(near)
        self.events[event] = Decided(automation, person, at, outcome, near)
        return outcome

    def find_newest(self, automation: str, person: str) -> Run | None:
        """Return the newest run of a pair."""
        mine = [run for run in self.list_runs(automation) if run.person == person]
        return max(mine, key=lambda run: run.at, default=None)

    def list_runs(self, automation: str) -> list[Run]:
        """Return an automation's runs, an older product's included."""
        return [run for run in self.runs if run.automation == automation]

    def count_total(self, automation: str) -> int:
        """Return what the automation had before us plus every run counted since."""
        runs = self.list_runs(automation)
        earlier = sum(run.event is None for run in runs)
        return max(self.stored_totals.get(automation, 0), earlier) + len(runs) - earlier

    def find_last_run_at(self, automation: str) -> datetime | None:
        """Return the time of the automation's newest run."""
        return max((run.at for run in self.list_runs(automation)), default=None)

    def count_since(self, automation: str, start: datetime) -> int:
        """Return how many runs the automation had from `start` on, the instant included."""
        return sum(run.at >= start for run in self.list_runs(automation))

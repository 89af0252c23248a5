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


@dataclass
class ReferenceModel:
    """All events and runs so far, and what each automation had before us."""

    window: timedelta
    runs: list[Run] = field(default_factory=list)
    # The automation and the outcome of each.
    events: dict[str, tuple[str, str]] = field(default_factory=dict)
    stored_totals: dict[str, int] = field(default_factory=dict)

    def record(
        self, event: str, automation: str, person: str, at: datetime, *, is_tap: bool = False
    ) -> str:
        """Count one event, in the order in which they are counted, and return its outcome."""
        if event in self.events:
            return "redelivered"
        mine = [run for run in self.list_runs(automation) if run.person == person]
        outcome = "counted"
        if is_tap:
            outcome = "continuation"
        elif any(abs(run.at - at) <= self.window for run in mine):
            outcome = "duplicate"
        else:
            self.runs.append(Run(automation, person, at, event))
        self.events[event] = automation, outcome
        return outcome

    def list_runs(self, automation: str) -> list[Run]:
        return [run for run in self.runs if run.automation == automation]

    def count_total(self, automation: str) -> int:
        """Return what the automation had before us plus every run counted since."""
        runs = self.list_runs(automation)
        earlier = sum(run.event is None for run in runs)
        return max(self.stored_totals.get(automation, 0), earlier) + len(runs) - earlier

    def find_last_run_at(self, automation: str) -> datetime | None:
        return max((run.at for run in self.list_runs(automation)), default=None)

    def count_since(self, automation: str, start: datetime) -> int:
        """Return how many runs the automation had from `start` on, the instant included."""
        return sum(run.at >= start for run in self.list_runs(automation))

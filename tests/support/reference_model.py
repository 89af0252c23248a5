"""What a perfect counter would hold: one event after the other, no batches, no clock, no crash.

The model of the promises I1-I4 and I8, too simple to be wrong: it scans lists, and knows nothing of
the system that is compared with it.
"""

from __future__ import annotations

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
class Stored:
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
    events: dict[str, Stored] = field(default_factory=dict)
    stored_totals: dict[str, int] = field(default_factory=dict)

    def record(
        self,
        event: str,
        automation: str,
        person: str,
        at: datetime,
        *,
        is_tap: bool = False,
        is_counting: bool = True,
    ) -> str:
        """Take one event in, in the order of their commits, and return its outcome."""
        if event in self.events:
            return "redelivered"
        if is_tap:
            self.events[event] = Stored(automation, person, at, "continuation", None)
            return "continuation"
        if not is_counting:
            self.events[event] = Stored(automation, person, at, "untracked", None)
            return "untracked"
        newest = self.find_newest(automation, person)
        if newest is not None and at <= newest.at + self.window:
            self.events[event] = Stored(automation, person, at, "duplicate", newest)
            return "duplicate"
        run = Run(automation, person, at, event)
        self.runs.append(run)
        self.events[event] = Stored(automation, person, at, "counted", run)
        return "counted"

    def replay(self, event: str) -> str:
        """Count an event that was stored untracked, unless a run is near it on either side."""
        stored = self.events[event]
        assert stored.outcome == "untracked", f"{event} is counted twice"
        mine = [run for run in self.list_runs(stored.automation) if run.person == stored.person]
        near = next((run for run in mine if abs(run.at - stored.at) <= self.window), None)
        outcome = "counted" if near is None else "duplicate"
        if near is None:
            near = Run(stored.automation, stored.person, stored.at, event)
            self.runs.append(near)
        self.events[event] = Stored(stored.automation, stored.person, stored.at, outcome, near)
        return outcome

    def list_untracked(self) -> list[str]:
        """Return the events that were stored and not counted yet."""
        return [event for event, one in self.events.items() if one.outcome == "untracked"]

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

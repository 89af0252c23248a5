"""What counting tells a monitor, as plain prometheus_client objects.

They are moved once for each flush, not for each event. With PROMETHEUS_MULTIPROC_DIR in the
environment they live in files that every process of a machine adds up
(https://prometheus.github.io/client_python/multiprocess/).
"""

import collections
from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

from tracking.runs import Outcome

TRIGGERS = Counter(
    "tracking_triggers", "Triggers that were committed, by outcome; counted are runs.", ["outcome"]
)
FLUSH_EVENTS = Histogram(
    "tracking_flush_events", "Triggers in a flush.", buckets=(1, 2, 5, 10, 25, 50, 100, 250, 1000)
)
FLUSH_SECONDS = Histogram(
    "tracking_flush_seconds", "How long a flush took, its merge of totals included.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3),
)  # fmt: skip
FLUSH_FAILURES = Counter(
    "tracking_flush_failures", "Attempts of a flush that failed, by kind.", ["kind"]
)
WAITING = Gauge(
    "tracking_waiting_events", "Triggers that wait for the next flush.",
    multiprocess_mode="livesum",
)  # fmt: skip

# Resolved once: a lookup by label costs as much as the increment.
_BY_OUTCOME = {outcome: TRIGGERS.labels(outcome.value) for outcome in Outcome}


def note_flush(answers: Iterable[object], *, events: int, seconds: float) -> None:
    """Note a flush of `events` triggers; an answer that is no outcome was not committed."""
    FLUSH_EVENTS.observe(events)
    FLUSH_SECONDS.observe(seconds)
    for answer, number in collections.Counter(map(_read_outcome, answers)).items():
        if answer is not None:
            _BY_OUTCOME[answer].inc(number)


def _read_outcome(answer: object) -> Outcome | None:
    return answer if isinstance(answer, Outcome) else None

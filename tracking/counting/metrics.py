"""What storing and counting tell a monitor, as plain prometheus_client objects.

They move once for each batch, not for each event. With PROMETHEUS_MULTIPROC_DIR in the
environment they live in files that every process of a machine adds up
(https://prometheus.github.io/client_python/multiprocess/).
"""

from prometheus_client import Counter, Gauge, Histogram

from tracking.mongo.errors import Failure
from tracking.runs import Outcome

TRIGGERS = Counter(
    "tracking_triggers", "Triggers by outcome; counted are runs, stored wait to be.", ["outcome"]
)
STORE_SECONDS = Histogram(
    "tracking_store_seconds", "How long an insert of triggers took.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3),
)  # fmt: skip
STORE_FAILURES = Counter("tracking_store_failures", "Inserts of triggers that failed.", ["kind"])
WAITING = Gauge(
    "tracking_waiting_events", "Triggers that wait for the next insert of their process.",
    multiprocess_mode="livesum",
)  # fmt: skip
BATCH_EVENTS = Histogram(
    "tracking_batch_events", "Triggers in a batch that was counted.",
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 1000),
)  # fmt: skip
BATCH_SECONDS = Histogram(
    "tracking_batch_seconds", "How long counting a batch took.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3),
)  # fmt: skip
LAG_SECONDS = Histogram(
    "tracking_lag_seconds", "From the arrival of a batch's oldest trigger until it was counted.",
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300, 3600),
)  # fmt: skip
BATCH_FAILURES = Counter("tracking_batch_failures", "Batches that failed, by kind.", ["kind"])

# Resolved once: a lookup by label costs as much as the increment. What never happened is 0.
BY_OUTCOME = {outcome: TRIGGERS.labels(outcome.value) for outcome in Outcome}
for _failure in Failure:
    STORE_FAILURES.labels(_failure.name.lower())
    BATCH_FAILURES.labels(_failure.name.lower())

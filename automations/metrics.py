"""What we count for Prometheus; what counting tells is in tracking/counting/metrics.py.

No label holds an id: a series for each automation or account would never end.
"""

from prometheus_client import Counter, Gauge, Histogram

ANSWERS = Counter(
    "webhook_answers", "Deliveries, by the status that they were answered with.", ["status"]
)
ANSWER_SECONDS = Histogram(
    "webhook_seconds",
    "How long a delivery took to answer.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5),
)
REQUESTS = Counter(
    "http_requests",
    "Answers of the API and the pages, by route, method and class of status.",
    ["route", "method", "status"],
)
REQUEST_SECONDS = Histogram(
    "http_request_seconds",
    "How long they took to answer.",
    ["route", "method", "status"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10),
)
IGNORED = Counter("webhook_ignored_events", "Events that became no trigger, by reason.", ["reason"])
DEAD_LETTERS = Counter("webhook_dead_letters", "What was kept because it could not be handled.")
STEPS = Counter("outbox_steps", "Messages, by what became of them.", ["state"])
GRAPH_ERRORS = Counter("graph_errors", "Calls to Meta that failed, by class.", ["class"])
MATCHING_NOTHING = Gauge(
    "automations_matching_nothing",
    "Active automations, of accounts in use, that can never match.",
    multiprocess_mode="livemax",
)

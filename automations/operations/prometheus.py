"""The text of /metrics: this machine's processes added up, and what waits in MongoDB.

A scrape lands on any one of the processes of `serve`. With PROMETHEUS_MULTIPROC_DIR, which `serve`
sets for them, each writes its figures into files of that directory: those of a process that ended
are still counted, except what it had waiting.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import REGISTRY, Collector

from automations import metrics
from automations.conf import conf
from automations.instagram.events import IGNORED_REASONS
from automations.instagram.graph_errors import ErrorClass
from automations.operations.health import Health, reader
from automations.outbox.jobs import StepState

# Every label that a rule may ask for is 0 first, because a series that begins at 1 has no increase.
for _metric, _values in (
    (metrics.ANSWERS, ("200", "400", "403", "405", "408", "413", "500", "503")),
    (metrics.IGNORED, (*IGNORED_REASONS, "no_automation", "forged_tap")),
    (metrics.STEPS, StepState),
    (metrics.GRAPH_ERRORS, [one.name.lower() for one in ErrorClass]),
):
    for _value in _values:
        _metric.labels(_value)

# prometheus_client reads it when it is imported, so that the children's environment has to have it.
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class HealthCollector(Collector):
    """What a look at MongoDB found; what it did not find is not there."""

    def collect(self) -> Iterator[Metric]:
        return list_health_metrics(reader.read())


def render_metrics() -> bytes:
    directory = conf.metrics_dir
    registry = CollectorRegistry()
    registry.register(HealthCollector())
    if directory is None:
        return generate_latest(REGISTRY) + generate_latest(registry)
    for pid in {read_pid(path) for path in directory.glob("gauge_live*.db")}:
        if not is_alive(pid):
            with suppress(FileNotFoundError):  # another scrape was first
                mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]
    MultiProcessCollector(registry, path=str(directory))  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def list_health_metrics(health: Health) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "mongodb_up", "Whether MongoDB answers, by its primary.", value=health.has_primary
    )
    figures = [
        ("mongodb_clock_ahead_seconds", "This host's clock against the primary's.",
         health.clock_offset),
        ("mongodb_missing_indexes", "Declared indexes that are missing.",
         None if health.missing_indexes is None else len(health.missing_indexes)),
        ("outbox_lag_seconds", "For how long the send has waited that could go first.",
         None if health.queue_lag is None else health.queue_lag.total_seconds()),
        ("tracking_oldest_uncounted_seconds",
         "For how long the trigger has waited that is counted next.",
         None if health.counting_lag is None else health.counting_lag.total_seconds()),
        ("outbox_queued_sends", "Sends that wait.", health.queued),
        ("webhook_dead_letters_waiting", "Dead letters that wait.", health.dead_letters),
        ("tracking_uncounted_triggers", "Triggers that are not counted yet.", health.uncounted),
        ("tracking_stuck_automations", "Automations that cannot be counted for now.",
         health.stuck),
    ]  # fmt: skip
    for name, text, value in figures:
        if value is not None:
            yield GaugeMetricFamily(name, text, value=value)


def read_pid(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True


@contextmanager
def metrics_directory() -> Iterator[Path]:
    """Make the directory, empty, and remove it at the end.

    One that the environment names is kept, as a worker that runs beside `serve` may be in it; only
    what processes left that are gone is cleared from it.
    """
    named = conf.metrics_dir
    if named is None:
        with tempfile.TemporaryDirectory(prefix="metrics-", ignore_cleanup_errors=True) as made:
            yield Path(made)
        return
    named.mkdir(parents=True, exist_ok=True)
    for path in named.glob("*.db"):
        if not is_alive(read_pid(path)):
            path.unlink(missing_ok=True)
    yield named

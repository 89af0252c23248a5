"""The text of /metrics: this machine's processes added up, and what waits in MongoDB.

A scrape lands on any one of the processes of `serve`. With PROMETHEUS_MULTIPROC_DIR, which `serve`
sets for them, each writes its figures into files of that directory: those of a process that ended
are still counted, except what it had waiting.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import REGISTRY, Collector

from automations.conf import conf
from automations.operations.health import Health, reader

_LIVE_FILE = re.compile(r"gauge_live\w*?_(\d+)\.db")

# prometheus_client reads it when it is imported, so that the children's environment has to have it.
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_FILE = re.compile(r"\w+_(\d+)\.db")


class HealthCollector(Collector):
    """What a look at MongoDB found; what it did not find is not there."""

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        return list_health_metrics(reader.read())


class ProcessesCollector(Collector):
    """What every process wrote into the directory, added up.

    A file that is empty is of a process that has just made it, or was killed there: read, it would
    be the end of this scrape and of all that follow.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        """Return the sums."""
        files = [str(path) for path in self._directory.glob("*.db") if read_size(path)]
        merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return merged


def render_metrics() -> bytes:
    """Return everything in Prometheus's text format."""
    directory = conf.metrics_dir
    registry = CollectorRegistry()
    registry.register(HealthCollector())
    if directory is None:
        return generate_latest(REGISTRY) + generate_latest(registry)
    forget_dead_gauges(directory)
    registry.register(ProcessesCollector(directory))
    return generate_latest(registry)


def list_health_metrics(health: Health) -> Iterator[Metric]:
    """Yield `health` as gauges."""
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
    ]  # fmt: skip
    if (waiting := health.waiting) is not None:
        figures += [
            ("outbox_queued_sends", "Sends that wait.", waiting.queued),
            ("webhook_dead_letters_waiting", "Dead letters that wait.", waiting.dead_letters),
            ("tracking_uncounted_triggers", "Triggers that are not counted yet.",
             waiting.uncounted),
            ("tracking_stuck_automations", "Automations that cannot be counted for now.",
             waiting.stuck),
        ]  # fmt: skip
    for name, text, value in figures:
        if value is not None:
            yield GaugeMetricFamily(name, text, value=value)


def forget_dead_gauges(directory: Path) -> None:
    """Remove what processes that are gone had waiting."""
    for path in directory.glob("gauge_live*.db"):
        match = _LIVE_FILE.fullmatch(path.name)
        if match and not is_alive(int(match[1])):
            path.unlink(missing_ok=True)


def read_size(path: Path) -> int:
    """Return the size of a file, 0 if another scrape has just removed it."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def is_alive(pid: int) -> bool:
    """Return whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
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
        match = _FILE.fullmatch(path.name)
        if match and not is_alive(int(match[1])):
            path.unlink(missing_ok=True)
    yield named

"""The directory through which the processes of one `serve` add their figures up."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from automations.conf import conf
from automations.exposition import is_alive

# prometheus_client reads it when it is imported, so that the children's environment has to have it.
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_FILE = re.compile(r"\w+_(\d+)\.db")


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

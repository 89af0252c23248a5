"""Every setting of tracking, declared once, typed, read at access."""

from datetime import timedelta
from pathlib import Path

from django.conf import settings


class Conf:
    """The settings as the code uses them, with the defaults of a project that sets none."""

    @property
    def mongodb_uri(self) -> str:
        """MONGODB_URI; empty means the embedded MongoDB of `data_dir`."""
        value: str = getattr(settings, "MONGODB_URI", "")
        return value

    @property
    def data_dir(self) -> Path:
        """DATA_DIR: where the embedded MongoDB keeps its files, absolute."""
        return Path(getattr(settings, "DATA_DIR", ".data")).absolute()

    @property
    def is_enabled(self) -> bool:
        """TRACKING_ENABLED: what the environment says; the stored switch must agree."""
        value: bool = getattr(settings, "TRACKING_ENABLED", True)
        return value

    @property
    def is_stats_enabled(self) -> bool:
        """TRACKING_STATS_ENABLED: whether answers carry `stats`."""
        value: bool = getattr(settings, "TRACKING_STATS_ENABLED", True)
        return value

    @property
    def dedup_window(self) -> timedelta:
        """TRACKING_DEDUP_WINDOW_MINUTES: two counted runs of a pair are further apart."""
        return timedelta(minutes=getattr(settings, "TRACKING_DEDUP_WINDOW_MINUTES", 60))

    @property
    def retention(self) -> timedelta:
        """TRACKING_RETENTION_DAYS: how long a run's document is kept."""
        return timedelta(days=getattr(settings, "TRACKING_RETENTION_DAYS", 90))


conf = Conf()

"""One system check per setting of tracking. Ids are stable: silence or search them by id."""

from collections.abc import Callable
from datetime import timedelta
from os import PathLike
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error

from tracking.conf import conf

# The stats of seven days need the runs of seven days, and one more for the hours around them.
MINIMUM_RETENTION_DAYS = 8

_MISSING = object()


def check_enabled(**_: Any) -> list[CheckMessage]:
    """E001: TRACKING_ENABLED should be a bool."""
    return _refuse_unless(_is_bool, "TRACKING_ENABLED", "a bool", "tracking.E001")


def check_dedup_window(**_: Any) -> list[CheckMessage]:
    """E002: TRACKING_DEDUP_WINDOW_MINUTES should be a whole number of minutes."""
    return _refuse_unless(
        lambda value: _is_int(value) and value >= 1,
        "TRACKING_DEDUP_WINDOW_MINUTES",
        "a whole number of minutes, 1 or more",
        "tracking.E002",
    )


def check_retention_covers_window(**_: Any) -> list[CheckMessage]:
    """E003: a run must outlive its dedup window, or its person is counted again too early."""
    if check_dedup_window() or check_retention():
        return []
    if conf.retention >= conf.dedup_window:
        return []
    return [
        Error(
            "TRACKING_RETENTION_DAYS should be at least as long as TRACKING_DEDUP_WINDOW_MINUTES "
            f"({conf.retention / timedelta(days=1):g} days < "
            f"{conf.dedup_window / timedelta(days=1):g} days).",
            hint="Raise TRACKING_RETENTION_DAYS or lower TRACKING_DEDUP_WINDOW_MINUTES.",
            id="tracking.E003",
        )
    ]


def check_retention(**_: Any) -> list[CheckMessage]:
    """E004: TRACKING_RETENTION_DAYS should be long enough for the stats of seven days."""
    return _refuse_unless(
        lambda value: _is_int(value) and value >= MINIMUM_RETENTION_DAYS,
        "TRACKING_RETENTION_DAYS",
        f"a whole number of days, {MINIMUM_RETENTION_DAYS} or more",
        "tracking.E004",
    )


def check_stats_enabled(**_: Any) -> list[CheckMessage]:
    """E005: TRACKING_STATS_ENABLED should be a bool."""
    return _refuse_unless(_is_bool, "TRACKING_STATS_ENABLED", "a bool", "tracking.E005")


def check_mongodb_uri(**_: Any) -> list[CheckMessage]:
    """E006: MONGODB_URI should be a MongoDB URI; never printed, it may hold a password."""
    return _refuse_unless(
        lambda value: (
            isinstance(value, str)
            and (not value or value.startswith(("mongodb://", "mongodb+srv://")))
        ),
        "MONGODB_URI",
        "a URI that starts with mongodb:// or mongodb+srv://, or empty for the embedded MongoDB",
        "tracking.E006",
    )


def check_data_dir(**_: Any) -> list[CheckMessage]:
    """E007: DATA_DIR should be a path."""
    return _refuse_unless(
        lambda value: isinstance(value, str | PathLike) and str(value) != "",
        "DATA_DIR",
        "a path",
        "tracking.E007",
    )


ALL_CHECKS: tuple[Callable[..., list[CheckMessage]], ...] = (
    check_enabled,
    check_dedup_window,
    check_retention_covers_window,
    check_retention,
    check_stats_enabled,
    check_mongodb_uri,
    check_data_dir,
)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _refuse_unless(
    is_valid: Callable[[Any], bool], name: str, what: str, check_id: str
) -> list[CheckMessage]:
    # A setting that the project does not have at all has the default of conf.py.
    value = getattr(settings, name, _MISSING)
    if value is _MISSING or is_valid(value):
        return []
    return [Error(f"{name} should be {what}.", id=check_id)]

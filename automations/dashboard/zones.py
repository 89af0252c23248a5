"""The reader's time zone: chosen in the session, else the browser's own by a cookie, else UTC."""

from __future__ import annotations

from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from django.http import HttpRequest

SESSION_ZONE = "zone"
# Set by our script from what the browser says; a name of a zone and nothing else is read from it.
COOKIE = "zone"
UTC_NAME = "UTC"

# Old names of zones that have others, and what is no place.
_NO_PLACES = frozenset(
    {"Etc", "SystemV", "US", "Canada", "Brazil", "Chile", "Mexico", "posix", "right"}
)


@cache
def list_zones() -> tuple[str, ...]:
    """Return the names to choose from: places, and UTC before them."""
    places = (name for name in available_timezones() if "/" in name)
    return (UTC_NAME, *sorted(name for name in places if name.split("/")[0] not in _NO_PLACES))


def find_zone(request: HttpRequest) -> tuple[ZoneInfo, bool]:
    """Return the reader's zone and whether it was chosen. An unknown name is as none."""
    chosen = read_zone(request.session.get(SESSION_ZONE))
    if chosen is not None:
        return chosen, True
    return read_zone(request.COOKIES.get(COOKIE)) or ZoneInfo(UTC_NAME), False


def read_zone(name: object) -> ZoneInfo | None:
    """Return the zone of that IANA name, None if there is none."""
    # Membership first: ZoneInfo opens a file by the name.
    if not isinstance(name, str) or name not in _all_zones():
        return None
    return ZoneInfo(name)


@cache
def _all_zones() -> frozenset[str]:
    return frozenset(available_timezones())

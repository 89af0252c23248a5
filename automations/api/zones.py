"""Time zones by their IANA name, and a refusal that names the one that was meant. Pure."""

from difflib import get_close_matches
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

UTC_NAME = "UTC"
# Anything longer is no zone, and not worth comparing with six hundred names.
_LONGEST_NAME = 64


class UnknownZone(ValueError):
    """There is no such zone; the message says what to write instead."""


@cache
def list_zones() -> frozenset[str]:
    """Return the names of all zones."""
    return frozenset(available_timezones())


def parse_zone(name: str) -> ZoneInfo:
    """Return the zone of that name. Raises UnknownZone, with the nearest name if there is one."""
    if name in list_zones():
        return ZoneInfo(name)
    by_lowered = {zone.lower(): zone for zone in list_zones()}
    wanted = name[:_LONGEST_NAME].strip().replace(" ", "_").lower()
    near = get_close_matches(wanted, by_lowered, n=1)
    if not near:  # people write the city alone
        near = [one for one in sorted(by_lowered) if one.rpartition("/")[2] == wanted][:1]
    hint = f" Did you mean {by_lowered[near[0]]}?" if near else ""
    raise UnknownZone(
        f"{name[:_LONGEST_NAME]!r} is not an IANA time zone; write one like Asia/Kolkata "
        f"or {UTC_NAME}.{hint}"
    )

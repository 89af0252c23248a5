"""Typed readers of environment variables; each error names the variable and the fix."""

import os
from collections.abc import Collection

from django.core.exceptions import ImproperlyConfigured

_BOOLEANS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


def forget_empty(name: str) -> None:
    """Unset an empty variable, for a library that takes it as a value."""
    if not read_str(name):
        os.environ.pop(name, None)


def read_str(name: str, default: str = "") -> str:
    """Return the variable stripped, or `default` if it is unset or empty."""
    return os.environ.get(name, "").strip() or default


def read_list(name: str) -> tuple[str, ...]:
    """Return the items of a comma list, without empty ones."""
    return tuple(item for item in map(str.strip, read_str(name).split(",")) if item)


def read_bool(name: str, *, default: bool) -> bool:
    """Return a switch. Raises ImproperlyConfigured for anything but on/off words."""
    raw = read_str(name)
    if not raw:
        return default
    try:
        return _BOOLEANS[raw.lower()]
    except KeyError:
        raise ImproperlyConfigured(
            f"{name} is {raw!r}; set it to one of {', '.join(_BOOLEANS)}, or leave it unset for "
            f"{'on' if default else 'off'}."
        ) from None


def read_int(name: str, *, default: int, minimum: int, unit: str) -> int:
    """Return a whole number of `unit`. Raises ImproperlyConfigured below `minimum`."""
    raw = read_str(name)
    if not raw:
        return default
    try:
        value = int(raw)
    except ValueError:
        value = minimum - 1
    if value < minimum:
        raise ImproperlyConfigured(
            f"{name} is {raw!r}; set it to a whole number of {unit}, {minimum} or more, or leave "
            f"it unset for {default}."
        )
    return value


def read_choice(name: str, *, choices: Collection[str], default: str = "") -> str:
    """Return one of `choices`. Raises ImproperlyConfigured for any other word."""
    raw = read_str(name, default)
    if raw != default and raw not in choices:
        raise ImproperlyConfigured(
            f"{name} is {raw!r}; set it to one of {', '.join(choices)}, or leave it unset."
        )
    return raw


def read_url(name: str, *, schemes: Collection[str], default: str = "") -> str:
    """Return a URL of one of `schemes`. Raises ImproperlyConfigured for any other scheme.

    The error does not quote the value, because it may hold a password.
    """
    raw = read_str(name, default)
    if raw != default and not any(
        raw.startswith(f"{scheme}://") and len(raw) > len(scheme) + 3 for scheme in schemes
    ):
        raise ImproperlyConfigured(
            f"{name} is not a URL that starts with "
            f"{' or '.join(f'{scheme}://' for scheme in schemes)}; correct it, or leave it unset."
        )
    return raw

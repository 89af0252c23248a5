"""One system check per setting of automations, and what a deployment must not lack."""

import binascii
import re
from base64 import urlsafe_b64decode
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error

from automations.conf import conf
from automations.hosts import find_url_problem

_FERNET_KEY_BYTES = 32
_LONG_TOKEN = re.compile("[!-~]{16,}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_tuple_of_text(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(_is_text(item) and item for item in value)


def _is_fernet_key(value: str) -> bool:
    try:
        return len(urlsafe_b64decode(value.encode())) == _FERNET_KEY_BYTES
    except (binascii.Error, ValueError):
        return False


def _is_rate(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_bound(value: Any) -> bool:
    return _is_rate(value) and bool(value)


# By the id of the check: the setting, whether a value is valid, and what it should be. No value is
# printed, because some are secrets.
_SETTINGS: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "E001": (
        "INSTAGRAM_APP_SECRETS",
        _is_tuple_of_text,
        "a tuple of non-empty strings (INSTAGRAM_APP_SECRET of the environment is a comma list)",
    ),
    "E002": ("INSTAGRAM_VERIFY_TOKEN", _is_text, "a string"),
    "E003": (
        "INSTAGRAM_GRAPH_URL",
        lambda value: _is_text(value) and find_url_problem(value) is None,
        "an https URL, http to this machine alone, because every call carries a token",
    ),
    "E004": (
        "INSTAGRAM_SENDING",
        lambda value: value in ("", "off", "shadow", "on"),
        "one of off, shadow, on, or empty for the default",
    ),
    "E005": (
        "FIELD_ENCRYPTION_KEYS",
        lambda value: _is_tuple_of_text(value) and all(map(_is_fernet_key, value)),
        "a tuple of Fernet keys: 32 random bytes each, in URL-safe base64",
    ),
    "E008": (
        "METRICS_TOKEN",
        lambda value: _is_text(value) and (not value or _LONG_TOKEN.fullmatch(value)),
        "16 characters or more, ASCII without spaces, or empty",
    ),
    "E009": ("API_REQUESTS_PER_MINUTE", _is_rate, "a whole number of requests, 0 for no limit"),
    "E010": ("AUTOMATIONS_PER_WORKSPACE", _is_bound, "a whole number of automations, 1 or more"),
    "E011": ("AUTOMATIONS_PER_ACCOUNT", _is_bound, "a whole number of automations, 1 or more"),
    "E012": ("AUTOMATION_KILOBYTES", _is_bound, "a whole number of kilobytes, 1 or more"),
}


def check_settings(**_: Any) -> list[CheckMessage]:
    """Name each setting that is not what it should be; one that is not set has a default."""
    return [
        Error(f"{name} should be {what}.", id=f"automations.{check_id}")
        for check_id, (name, is_valid, what) in _SETTINGS.items()
        if hasattr(settings, name) and not is_valid(getattr(settings, name))
    ]


def check_deployment(**_: Any) -> list[CheckMessage]:
    """Name the secrets that a deployment lacks."""
    key = Error(
        "DJANGO_SECRET_KEY should be set: a key made at start ends every session at a restart.",
        hint='python -c "import secrets; print(secrets.token_urlsafe(50))" makes one.',
        id="automations.E006",
    )
    secret = Error(
        "INSTAGRAM_APP_SECRET should be set: without it every delivery is answered 403.",
        hint="It is the app secret on the app's page in Meta's dashboard.",
        id="automations.E007",
    )
    missing: list[CheckMessage] = [key] if conf.is_secret_key_ephemeral else []
    return missing if conf.app_secrets else [*missing, secret]

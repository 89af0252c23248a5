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

SENDING_MODES = ("off", "shadow", "on")
_FERNET_KEY_BYTES = 32

_SHORTEST_TOKEN = 16
_LONG_TOKEN = re.compile(rf"[!-~]{{{_SHORTEST_TOKEN},}}")
_TOKEN_FORM = f"{_SHORTEST_TOKEN} characters or more, ASCII without spaces, or empty"


def _is_tuple_of_text(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(item, str) and item for item in value)


def _is_graph_url(value: Any) -> bool:
    return isinstance(value, str) and find_url_problem(value) is None


def _is_tuple_of_keys(value: Any) -> bool:
    return _is_tuple_of_text(value) and all(map(_is_fernet_key, value))


def _is_fernet_key(value: str) -> bool:
    try:
        return len(urlsafe_b64decode(value.encode())) == _FERNET_KEY_BYTES
    except (binascii.Error, ValueError):
        return False


def _is_token(value: Any) -> bool:
    return isinstance(value, str) and bool(not value or _LONG_TOKEN.fullmatch(value))


def _is_rate(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_bound(value: Any) -> bool:
    return _is_rate(value) and bool(value)


# By the id of the check: the setting, whether a value is valid, and what it should be. No value is
# printed, because some are secrets.
_SETTINGS: dict[str, tuple[str, Callable[[Any], bool], str]] = {
    "E001": (
        "INSTAGRAM_APP_SECRETS",
        _is_tuple_of_text,
        (
            "a tuple of non-empty strings (the environment has it as a comma list in "
            "INSTAGRAM_APP_SECRET)"
        ),
    ),
    "E002": ("INSTAGRAM_VERIFY_TOKEN", lambda value: isinstance(value, str), "a string"),
    "E003": (
        "INSTAGRAM_GRAPH_URL",
        _is_graph_url,
        (
            "an https URL such as https://graph.instagram.com (http to this machine alone: every "
            "call carries a token)"
        ),
    ),
    "E004": (
        "INSTAGRAM_SENDING",
        lambda value: value in ("", *SENDING_MODES),
        f"one of {', '.join(SENDING_MODES)}, or empty for the default",
    ),
    "E005": (
        "FIELD_ENCRYPTION_KEYS",
        _is_tuple_of_keys,
        "a tuple of Fernet keys: 32 random bytes each, in URL-safe base64",
    ),
    "E008": ("METRICS_TOKEN", _is_token, _TOKEN_FORM),
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
    missing: list[CheckMessage] = []
    if conf.is_secret_key_ephemeral:
        missing.append(
            Error(
                "DJANGO_SECRET_KEY should be set: a key made at start ends every session at a "
                "restart.",
                hint='python -c "import secrets; print(secrets.token_urlsafe(50))" makes one.',
                id="automations.E006",
            )
        )
    if not conf.app_secrets:
        missing.append(
            Error(
                "INSTAGRAM_APP_SECRET should be set: without it every delivery is answered 403.",
                hint="It is the app secret on the app's page in Meta's dashboard.",
                id="automations.E007",
            )
        )
    return missing

"""One system check per setting of automations, and what a deployment must not lack."""

from __future__ import annotations

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

_MISSING = object()


def check_app_secrets(**_: Any) -> list[CheckMessage]:
    """E001: INSTAGRAM_APP_SECRETS should be a tuple of secrets; never printed."""
    return _refuse_unless(
        _is_tuple_of_text,
        "INSTAGRAM_APP_SECRETS",
        "a tuple of non-empty strings (the environment has it as a comma list in "
        "INSTAGRAM_APP_SECRET)",
        "automations.E001",
    )


def check_verify_token(**_: Any) -> list[CheckMessage]:
    """E002: INSTAGRAM_VERIFY_TOKEN should be a string; never printed."""
    return _refuse_unless(
        lambda value: isinstance(value, str),
        "INSTAGRAM_VERIFY_TOKEN",
        "a string",
        "automations.E002",
    )


def check_graph_url(**_: Any) -> list[CheckMessage]:
    """E003: INSTAGRAM_GRAPH_URL should be the root of the Graph API."""
    return _refuse_unless(
        _is_graph_url,
        "INSTAGRAM_GRAPH_URL",
        "an https URL such as https://graph.instagram.com (http to this machine alone: every call "
        "carries a token)",
        "automations.E003",
    )


def check_sending(**_: Any) -> list[CheckMessage]:
    """E004: INSTAGRAM_SENDING should be a known mode."""
    return _refuse_unless(
        lambda value: value in ("", *SENDING_MODES),
        "INSTAGRAM_SENDING",
        f"one of {', '.join(SENDING_MODES)}, or empty for the default",
        "automations.E004",
    )


def check_field_encryption_keys(**_: Any) -> list[CheckMessage]:
    """E005: FIELD_ENCRYPTION_KEYS should be Fernet keys; never printed."""
    return _refuse_unless(
        lambda value: _is_tuple_of_text(value) and all(map(_is_fernet_key, value)),
        "FIELD_ENCRYPTION_KEYS",
        "a tuple of Fernet keys: 32 random bytes each, in URL-safe base64",
        "automations.E005",
    )


def check_metrics_token(**_: Any) -> list[CheckMessage]:
    """E008: METRICS_TOKEN should be hard to guess, or empty; never printed."""
    return _refuse_unless(
        lambda value: isinstance(value, str) and bool(not value or _LONG_TOKEN.fullmatch(value)),
        "METRICS_TOKEN",
        f"{_SHORTEST_TOKEN} characters or more, ASCII without spaces, or empty",
        "automations.E008",
    )


def check_requests_per_minute(**_: Any) -> list[CheckMessage]:
    """E009: API_REQUESTS_PER_MINUTE should be a number of requests, or 0."""
    return _refuse_unless(
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
        "API_REQUESTS_PER_MINUTE",
        "a whole number of requests, 0 for no limit",
        "automations.E009",
    )


def check_secret_key_is_set(**_: Any) -> list[CheckMessage]:
    """E006, on deployment: DJANGO_SECRET_KEY should be set."""
    if not conf.is_secret_key_ephemeral:
        return []
    return [
        Error(
            "DJANGO_SECRET_KEY should be set: a key made at start ends every session at a restart.",
            hint='python -c "import secrets; print(secrets.token_urlsafe(50))" makes one.',
            id="automations.E006",
        )
    ]


def check_app_secret_is_set(**_: Any) -> list[CheckMessage]:
    """E007, on deployment: without an app secret every delivery is answered 403."""
    if conf.app_secrets:
        return []
    return [
        Error(
            "INSTAGRAM_APP_SECRET should be set: without it every delivery is answered 403.",
            hint="It is the app secret on the app's page in Meta's dashboard.",
            id="automations.E007",
        )
    ]


ALL_CHECKS: tuple[Callable[..., list[CheckMessage]], ...] = (
    check_app_secrets,
    check_verify_token,
    check_graph_url,
    check_sending,
    check_field_encryption_keys,
    check_metrics_token,
    check_requests_per_minute,
)
DEPLOY_CHECKS: tuple[Callable[..., list[CheckMessage]], ...] = (
    check_secret_key_is_set,
    check_app_secret_is_set,
)


def _is_tuple_of_text(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(item, str) and item for item in value)


def _is_graph_url(value: Any) -> bool:
    return isinstance(value, str) and find_url_problem(value) is None


def _is_fernet_key(value: str) -> bool:
    try:
        return len(urlsafe_b64decode(value.encode())) == _FERNET_KEY_BYTES
    except (binascii.Error, ValueError):
        return False


def _refuse_unless(
    is_valid: Callable[[Any], bool], name: str, what: str, check_id: str
) -> list[CheckMessage]:
    # A setting that the project does not have at all has the default of conf.py.
    value = getattr(settings, name, _MISSING)
    if value is _MISSING or is_valid(value):
        return []
    return [Error(f"{name} should be {what}.", id=check_id)]

"""One system check per setting; the ids are part of the contract."""

from base64 import urlsafe_b64encode
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core import checks

from automations.checks import check_deployment
from automations.conf import conf as automations_conf
from tracking.conf import conf as tracking_conf

FERNET_KEY = urlsafe_b64encode(bytes(32)).decode()


def list_ids() -> list[str]:
    found = checks.run_checks(tags=[checks.Tags.compatibility])
    return [message.id for message in found if message.id]


@pytest.mark.parametrize(
    ("name", "value", "check_id"),
    [
        ("TRACKING_ENABLED", "yes", "tracking.E001"),
        ("TRACKING_DEDUP_WINDOW_MINUTES", 0, "tracking.E002"),
        ("TRACKING_DEDUP_WINDOW_MINUTES", "60", "tracking.E002"),
        ("TRACKING_DEDUP_WINDOW_MINUTES", True, "tracking.E002"),
        ("TRACKING_DEDUP_WINDOW_MINUTES", 60 * 24 * 91, "tracking.E003"),
        ("TRACKING_RETENTION_DAYS", 7, "tracking.E004"),
        ("TRACKING_STATS_ENABLED", None, "tracking.E005"),
        ("MONGODB_URI", "host:27017", "tracking.E006"),
        ("MONGODB_URI", None, "tracking.E006"),
        ("DATA_DIR", "", "tracking.E007"),
        ("INSTAGRAM_APP_SECRETS", "one secret", "automations.E001"),
        ("INSTAGRAM_APP_SECRETS", ("",), "automations.E001"),
        ("INSTAGRAM_VERIFY_TOKEN", None, "automations.E002"),
        ("INSTAGRAM_GRAPH_URL", "graph.instagram.com", "automations.E003"),
        ("INSTAGRAM_GRAPH_URL", 1, "automations.E003"),
        ("INSTAGRAM_GRAPH_URL", "http://graph.instagram.com", "automations.E003"),
        ("INSTAGRAM_GRAPH_URL", "https://graph.instagram.com@evil.example", "automations.E003"),
        ("INSTAGRAM_GRAPH_URL", "https://graph.instagram.com/?to=", "automations.E003"),
        ("INSTAGRAM_GRAPH_URL", "https://[half", "automations.E003"),
        ("INSTAGRAM_SENDING", "yes", "automations.E004"),
        ("FIELD_ENCRYPTION_KEYS", ("too-short",), "automations.E005"),
        ("FIELD_ENCRYPTION_KEYS", ("!" * 44,), "automations.E005"),
        ("METRICS_TOKEN", "short", "automations.E008"),
        ("API_REQUESTS_PER_MINUTE", -1, "automations.E009"),
        ("API_REQUESTS_PER_MINUTE", "600", "automations.E009"),
        ("AUTOMATIONS_PER_WORKSPACE", 0, "automations.E010"),
        ("AUTOMATIONS_PER_ACCOUNT", True, "automations.E011"),
        ("AUTOMATION_KILOBYTES", "64", "automations.E012"),
        ("METRICS_TOKEN", "with spaces that are not possible", "automations.E008"),
    ],
)
def test_a_bad_setting_is_named(settings: Any, name: str, value: Any, check_id: str) -> None:
    setattr(settings, name, value)
    assert list_ids() == [check_id]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRACKING_DEDUP_WINDOW_MINUTES", 60 * 24 * 90),
        ("TRACKING_RETENTION_DAYS", 8),
        ("MONGODB_URI", ""),
        ("MONGODB_URI", "mongodb+srv://cluster.example/runs"),
        ("DATA_DIR", Path("somewhere")),
        ("INSTAGRAM_GRAPH_URL", "http://127.0.0.1:8001"),
        ("INSTAGRAM_GRAPH_URL", "https://graph.facebook.com/v26.0"),
        ("INSTAGRAM_SENDING", "shadow"),
        ("FIELD_ENCRYPTION_KEYS", (FERNET_KEY, FERNET_KEY)),
    ],
)
def test_a_good_setting_passes(settings: Any, name: str, value: Any) -> None:
    setattr(settings, name, value)
    assert list_ids() == []


def test_a_deployment_needs_both_secrets(settings: Any) -> None:
    settings.SECRET_KEY_IS_EPHEMERAL = True
    settings.INSTAGRAM_APP_SECRETS = ()
    assert [message.id for message in check_deployment()] == [
        "automations.E006",
        "automations.E007",
    ]


def test_a_project_that_sets_nothing_has_the_defaults(settings: Any) -> None:
    names = ("DEDUP_WINDOW_MINUTES", "ENABLED", "RETENTION_DAYS", "STATS_ENABLED")
    for name in ("DATA_DIR", "MONGODB_URI", *(f"TRACKING_{one}" for one in names)):
        delattr(settings, name)
    assert list_ids() == []
    assert tracking_conf.mongodb_uri == ""
    assert tracking_conf.data_dir == Path.cwd() / ".data"
    assert tracking_conf.is_enabled
    assert tracking_conf.is_stats_enabled
    assert tracking_conf.dedup_window == timedelta(hours=1)
    assert tracking_conf.retention == timedelta(days=90)


def test_settings_are_read_at_access(settings: Any) -> None:
    settings.INSTAGRAM_APP_SECRETS = ["new"]
    settings.INSTAGRAM_GRAPH_URL = "https://graph.example/v1/"
    assert automations_conf.app_secrets == ("new",)
    assert automations_conf.graph_url == "https://graph.example/v1"
    assert automations_conf.verify_token == "test-verify-token"
    assert automations_conf.sending == ""
    assert automations_conf.field_encryption_keys == ()
    assert not automations_conf.is_secret_key_ephemeral

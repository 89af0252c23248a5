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


BAD: list[tuple[str, str, list[Any]]] = [
    ("TRACKING_ENABLED", "tracking.E001", ["yes"]),
    ("TRACKING_DEDUP_WINDOW_MINUTES", "tracking.E002", [0, "60", True]),
    ("TRACKING_DEDUP_WINDOW_MINUTES", "tracking.E003", [60 * 24 * 91]),
    ("TRACKING_RETENTION_DAYS", "tracking.E004", [7]),
    ("TRACKING_STATS_ENABLED", "tracking.E005", [None]),
    ("MONGODB_URI", "tracking.E006", ["host:27017", None]),
    ("DATA_DIR", "tracking.E007", [""]),
    ("INSTAGRAM_APP_SECRETS", "automations.E001", ["one secret", ("",)]),
    ("INSTAGRAM_VERIFY_TOKEN", "automations.E002", [None]),
    ("INSTAGRAM_GRAPH_URL", "automations.E003", ["graph.instagram.com", 1, "https://[half"]),
    ("INSTAGRAM_GRAPH_URL", "automations.E003", ["http://graph.instagram.com"]),
    ("INSTAGRAM_GRAPH_URL", "automations.E003", ["https://graph.instagram.com@evil.example"]),
    ("INSTAGRAM_GRAPH_URL", "automations.E003", ["https://graph.instagram.com/?to="]),
    ("INSTAGRAM_SENDING", "automations.E004", ["yes"]),
    ("FIELD_ENCRYPTION_KEYS", "automations.E005", [("too-short",), ("!" * 44,)]),
    ("METRICS_TOKEN", "automations.E008", ["short", "with spaces that are not possible"]),
    ("API_REQUESTS_PER_MINUTE", "automations.E009", [-1, "600"]),
    ("AUTOMATIONS_PER_WORKSPACE", "automations.E010", [0]),
    ("AUTOMATIONS_PER_ACCOUNT", "automations.E011", [True]),
    ("AUTOMATION_KILOBYTES", "automations.E012", ["64"]),
]
GOOD: list[tuple[str, list[Any]]] = [
    ("TRACKING_DEDUP_WINDOW_MINUTES", [60 * 24 * 90]),
    ("TRACKING_RETENTION_DAYS", [8]),
    ("MONGODB_URI", ["", "mongodb+srv://cluster.example/runs"]),
    ("DATA_DIR", [Path("somewhere")]),
    ("INSTAGRAM_GRAPH_URL", ["http://127.0.0.1:8001", "https://graph.facebook.com/v26.0"]),
    ("INSTAGRAM_SENDING", ["shadow"]),
    ("FIELD_ENCRYPTION_KEYS", [(FERNET_KEY, FERNET_KEY)]),
]


@pytest.mark.parametrize(("name", "check_id", "values"), BAD)
def test_a_bad_setting_is_named(settings: Any, name: str, check_id: str, values: list[Any]) -> None:
    for value in values:
        setattr(settings, name, value)
        assert list_ids() == [check_id], value


@pytest.mark.parametrize(("name", "values"), GOOD)
def test_a_good_setting_passes(settings: Any, name: str, values: list[Any]) -> None:
    for value in values:
        setattr(settings, name, value)
        assert list_ids() == [], value


def test_a_deployment_needs_both_secrets(settings: Any) -> None:
    settings.SECRET_KEY_IS_EPHEMERAL, settings.INSTAGRAM_APP_SECRETS = True, ()
    assert [one.id for one in check_deployment()] == ["automations.E006", "automations.E007"]


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

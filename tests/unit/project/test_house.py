from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command, get_commands
from django.test import Client


def test_there_is_no_sql_database(settings: Any) -> None:
    assert list(settings.DATABASES) in ([], ["default"])
    engine = settings.DATABASES.get("default", {}).get("ENGINE", "")
    assert engine in ("", "django.db.backends.dummy")


def test_migrate_names_the_two_commands_to_run_instead() -> None:
    out = StringIO()
    call_command("migrate", "--noinput", stdout=out)
    for name in ("add_run_fields", "add_run_indexes"):
        assert f"python manage.py {name}\n" in out.getvalue()
        assert name in get_commands()


def test_system_checks_pass() -> None:
    call_command("check", stdout=StringIO())


@pytest.mark.parametrize(
    ("method", "scheme", "status"),
    [("get", None, 200), ("get", "https", 200), ("get", "http", 301), ("post", "http", 403)],
)
def test_http_behind_a_proxy_is_sent_to_https_and_a_body_is_never_redirected(
    client: Client, method: str, scheme: str | None, status: int
) -> None:
    headers = {"x-forwarded-proto": scheme} if scheme else {}
    response = getattr(client, method)("/healthz?a=1", headers=headers)
    assert response.status_code == status
    assert response.get("Location") == ("https://testserver/healthz?a=1" if status == 301 else None)
    assert status != 200 or response.content == b"ok"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_cookies_are_secure_where_the_request_was(scheme: str) -> None:
    headers = {"X-Forwarded-Proto": "https"} if scheme == "https" else {}
    response = Client().get("/login", headers=headers)
    assert response.cookies["csrftoken"]["secure"] == (scheme == "https" or "")

"""The project as a whole: it answers, it needs no SQL database, and its commands say so."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command, get_commands
from django.test import Client


def test_health_check_answers_without_any_database(client: Client) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.content) == (200, b"ok")


def test_there_is_no_sql_database(settings: Any) -> None:
    assert list(settings.DATABASES) in ([], ["default"])
    assert settings.DATABASES.get("default", {}).get("ENGINE", "") in (
        "",
        "django.db.backends.dummy",
    )


def test_migrate_names_the_two_commands_to_run_instead() -> None:
    out = StringIO()
    call_command("migrate", "--noinput", stdout=out)
    assert "python manage.py add_run_fields\n" in out.getvalue()
    assert "python manage.py add_run_indexes\n" in out.getvalue()


def test_the_commands_that_migrate_names_exist() -> None:
    assert {"add_run_fields", "add_run_indexes"} <= get_commands().keys()


def test_system_checks_pass() -> None:
    call_command("check", stdout=StringIO())


@pytest.mark.parametrize("path", ["rest_framework/css/default.css", "rest_framework/js/default.js"])
def test_the_browsable_api_has_its_files_without_collectstatic(client: Client, path: str) -> None:
    response = client.get(f"/static/{path}")
    assert response.status_code == 200
    assert b"".join(response.streaming_content)  # type: ignore[attr-defined]
    response.close()


class TestRedirectToTls:
    def test_http_behind_a_proxy_is_sent_to_https(self, client: Client) -> None:
        response = client.get("/healthz?a=1", headers={"x-forwarded-proto": "http"})
        assert response.status_code == 301
        assert response["Location"] == "https://testserver/healthz?a=1"

    def test_a_body_is_never_redirected(self, client: Client) -> None:
        response = client.post("/healthz", headers={"x-forwarded-proto": "http"})
        assert response.status_code == 403

    @pytest.mark.parametrize("headers", [{}, {"x-forwarded-proto": "https"}])
    def test_anything_else_is_answered(self, client: Client, headers: dict[str, str]) -> None:
        assert client.get("/healthz", headers=headers).status_code == 200

import io
from collections import Counter
from typing import Any

import pytest
from django.conf import settings as project_settings
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404
from django.test import Client, RequestFactory
from django.urls import resolve
from prometheus_client import REGISTRY
from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.views import APIView

from automations.webhook import views
from automations.webhook.deliveries import DeliverySummary
from automations.webhook.views import InstagramWebhookView
from tests.support.webhook_cases import PATH, post_body, sign
from tracking.exceptions import TrackingUnavailable

MOST_BYTES = project_settings.DATA_UPLOAD_MAX_MEMORY_SIZE


@pytest.fixture
def delivered(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bodies that the view hands on."""
    bodies: list[bytes] = []

    def handle(body: bytes, **_: Any) -> DeliverySummary:
        bodies.append(body)
        return DeliverySummary(Counter(), Counter())

    monkeypatch.setattr(views, "handle_delivery", handle)
    return bodies


def assert_text(response: Any, status: int, text: str) -> None:
    assert (response.status_code, response.content.decode()) == (status, text)
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response["Content-Length"] == str(len(response.content))
    assert response["X-Content-Type-Options"] == "nosniff"


def test_the_url_configuration_leads_to_a_view_of_the_api() -> None:
    view: Any = resolve(PATH).func
    assert view.cls is InstagramWebhookView
    assert issubclass(view.cls, APIView)


CONTENT_TYPES = [
    *["application/json", "application/x-www-form-urlencoded", "multipart/form-data"],
    *["multipart/form-data; boundary=x", "text/html; charset=nonsense", "*/*"],
    *["nonsense;;=;\u00e9", ""],
]


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
@pytest.mark.parametrize("body", [b"{}", b"a=1&b=2", b"--x\r\n\r\n", b"\xff\x00", b""])
def test_content_types_stop_nothing(delivered: list[bytes], content_type: str, body: bytes) -> None:
    assert_text(post_body(body, **{"Content-Type": content_type}), 200, "EVENT_RECEIVED")
    assert delivered == [body]


@pytest.mark.parametrize("accept", ["text/html", "application/json", "image/*;q=0", "nonsense", ""])
@pytest.mark.parametrize("query", ["", "?format=json", "?format=api"])
def test_no_accept_header_stops_a_delivery(delivered: list[bytes], accept: str, query: str) -> None:
    headers = {"X-Hub-Signature-256": sign(b"{}"), "Accept": accept}
    response = Client().post(PATH + query, b"{}", content_type="text/plain", headers=headers)
    assert_text(response, 200, "EVENT_RECEIVED")
    assert len(delivered) == 1


@pytest.mark.parametrize("method", ["put", "patch", "delete", "options", "trace"])
def test_other_methods_are_not_allowed(delivered: list[bytes], method: str) -> None:
    response = getattr(Client(), method)(PATH, headers={"accept": "text/html"})
    assert_text(response, 405, f'Method "{method.upper()}" not allowed.')
    assert response["Allow"] == "GET, POST"
    assert Client().head(PATH).status_code == 405
    assert delivered == []


def test_a_body_over_the_limit_is_refused_before_its_signature(delivered: list[bytes]) -> None:
    for signature in (None, sign(b" " * (MOST_BYTES + 1))):
        response = post_body(b" " * (MOST_BYTES + 1), signature=signature)
        assert_text(response, 413, f"Body over {MOST_BYTES} bytes")
    assert_text(post_body(b" " * MOST_BYTES), 200, "EVENT_RECEIVED")
    assert len(delivered) == 1


def test_a_body_that_breaks_off_is_refused() -> None:
    class Broken(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise OSError("the client has gone")

    request = RequestFactory().post(PATH, b"{}", content_type="text/plain")
    request = type(request)(request.environ | {"wsgi.input": Broken()})
    response: Any = InstagramWebhookView.as_view()(request)
    assert (response.status_code, response.data) == (400, "The body did not arrive")


def test_a_database_that_is_away_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(TrackingUnavailable("too slow"), monkeypatch)
    labels = {"status": "503"}
    before = REGISTRY.get_sample_value("webhook_answers_total", labels) or 0
    response = post_body(b"{}")
    assert_text(response, 503, "Try again later")
    assert response["Retry-After"] == "5"
    assert REGISTRY.get_sample_value("webhook_answers_total", labels) == before + 1


ERRORS = [
    *[RuntimeError("text of a person"), Http404(), PermissionDenied(), SuspiciousOperation()],
    *[ParseError(), ValidationError({"text": ["of a person"]})],
]


@pytest.mark.parametrize("error", ERRORS)
def test_a_bug_of_ours_is_500_and_never_meta_s_fault(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail_with(error, monkeypatch)
    assert_text(post_body(b"{}", Accept="text/html"), 500, "Server error")
    assert "❌ [TRACKING] Delivery not handled" in caplog.messages


def fail_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> DeliverySummary:
        raise error

    monkeypatch.setattr(views, "handle_delivery", fail)


def test_plain_http_behind_a_proxy_is_refused(delivered: list[bytes]) -> None:
    assert post_body(b"{}", **{"X-Forwarded-Proto": "http"}).status_code == 403
    assert delivered == []


def test_every_answer_is_in_the_schema(client: Client) -> None:
    schema = client.get("/api/schema", headers={"accept": "application/json"}).json()
    operations = schema["paths"][PATH]
    assert operations.keys() == {"get", "post"}
    assert operations["get"]["responses"].keys() == {"200", "403"}
    assert operations["post"]["responses"].keys() == {"200", "403", "413", "503"}
    assert operations["post"]["security"] == [{"signature": []}]
    scheme = schema["components"]["securitySchemes"]["signature"]
    assert (scheme["in"], scheme["name"]) == ("header", "X-Hub-Signature-256")

import pytest
from django.test import Client


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

"""Cookies are `Secure` exactly where the request was."""

from __future__ import annotations

import pytest
from django.test import Client


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_cookies_follow_the_scheme_of_the_request(scheme: str) -> None:
    headers = {"X-Forwarded-Proto": "https"} if scheme == "https" else {}
    response = Client().get("/login", headers=headers)
    assert response.cookies["csrftoken"]["secure"] == (scheme == "https" or "")

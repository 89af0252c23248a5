"""Files of pages have the hash of their content in their names; answers are compressed."""

import gzip
import re
from typing import Any

import pytest
from django.test import Client

from project.static_files import hash_name
from tests.support.webhook_cases import PATH

PLAIN = "/static/automations/base.css"
GZIP = {"accept-encoding": "gzip"}


def read(response: Any) -> bytes:
    content = b"".join(response)
    response.close()
    return content


def test_pages_name_files_that_browsers_keep_for_good(client: Client) -> None:
    page = client.get("/login").content.decode()
    paths = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert paths
    for path in paths:
        assert re.search(r"\.[0-9a-f]{12}\.\w+$", path)
        response = client.get(path)
        assert read(response)
        assert response["Cache-Control"] == "max-age=315360000, public, immutable"
    hashed = next(path for path in paths if "base." in path)
    plain = client.get(PLAIN)
    assert plain["Cache-Control"] == "max-age=60, public"
    assert read(plain) == read(client.get(hashed))


@pytest.mark.parametrize("name", ["automations", "nothing.css", ""])
def test_what_is_no_file_keeps_its_name(name: str) -> None:
    assert hash_name(name) == name


@pytest.mark.parametrize("path", ["/login", PLAIN, "/api/schema"])
def test_answers_are_compressed_for_who_asks(client: Client, path: str) -> None:
    response = client.get(path, headers=GZIP)
    assert response["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in response["Vary"]
    packed = read(response)
    whole = client.get(path)
    assert "Content-Encoding" not in whole
    assert len(packed) < len(read(whole)) == len(gzip.decompress(packed))


def test_the_webhook_and_parts_of_files_are_not(client: Client) -> None:
    query = {"hub.mode": "subscribe", "hub.verify_token": "test-verify-token"}
    answer = client.get(PATH, {**query, "hub.challenge": "1" * 1000}, headers=GZIP)
    assert answer.content == b"1" * 1000
    part = client.get(PLAIN, headers={**GZIP, "range": "bytes=0-9"})
    assert part.status_code == 206
    assert len(read(part)) == 10

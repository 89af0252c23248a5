"""What tests of the pages share: a visitor who is logged in, and pages as people read them."""

import html
import re

import pytest
from django.test import Client

from tests.support.api_client import Db, log_in


@pytest.fixture
def visitor(db: Db) -> Client:
    return log_in()


def read_text(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def list_texts(page: str, pattern: str) -> list[str]:
    """The texts of what matches, or of its group."""
    return [read_text(one) for one in re.findall(pattern, page, re.DOTALL)]


def read_version(page: str, part: str = "live") -> str:
    """What the page asks its part to be newer than."""
    version: str = re.findall(rf'{part}\?v=([\w-]+)"', page)[0]
    return version

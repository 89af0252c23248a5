"""A chromium of the system, the pages of a server process, and what the browser must never do."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.test import override_settings
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    expect,
)
from pymongo import MongoClient
from pymongo.database import Database

from tests.browser.workspace import fill
from tests.conftest import prepare
from tests.support.web_server import WebServer
from tracking import service
from tracking.mongo import client as mongo

Db = Database[dict[str, Any]]

# Playwright's own download is not needed: Debian's package is what .ci/run installs.
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
_QUIET = ("--disable-background-networking", "--disable-component-update")
_PLAIN = ("--disable-gpu", "--disable-sync", "--no-first-run")
# The machine is shared with other tests.
_PATIENCE_MS = 30_000
expect.set_options(timeout=_PATIENCE_MS)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    arguments = [*_QUIET, *_PLAIN, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    return {**browser_type_launch_args, "executable_path": CHROMIUM, "args": arguments}


@pytest.fixture(scope="session")
def workspace(mongodb_server: str, mongodb_client: MongoClient[dict[str, Any]]) -> Iterator[Db]:
    """A database of its own with a workspace that has lived for a week, for all tests here."""
    name = f"test_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_browser"
    mongodb_client.drop_database(name)
    database = mongodb_client[name]
    prepare(database)
    with _reach(mongodb_server, name):
        fill(database)
    yield database
    mongodb_client.drop_database(name)


@pytest.fixture(scope="session")
def site(
    mongodb_server: str, workspace: Db, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebServer]:
    directory = tmp_path_factory.mktemp("site")
    with WebServer(directory, uri=_build_uri(mongodb_server, workspace.name)) as server:
        yield server


@pytest.fixture(autouse=True)
def _same_database(mongodb_server: str, workspace: Db) -> Iterator[None]:
    """What a test does itself, as making a token, it does on that database too."""
    with _reach(mongodb_server, workspace.name):
        yield


@contextmanager
def _reach(server: str, name: str) -> Iterator[None]:
    with override_settings(MONGODB_URI=_build_uri(server, name)):
        try:
            yield
        finally:
            service.close()
            mongo.close()


def _build_uri(server: str, name: str) -> str:
    return urlsplit(server)._replace(path=f"/{name}").geturl()


class Visit:
    """A browser window of one reader, and everything that went wrong in it."""

    def __init__(self, context: BrowserContext, site: WebServer) -> None:
        self.url = site.url
        self.page: Page = context.new_page()
        self.page.set_default_timeout(_PATIENCE_MS)
        self.page.set_default_navigation_timeout(_PATIENCE_MS)
        self.wrong: list[str] = []
        self._host = urlsplit(site.url).netloc
        self.page.on("console", self._note_console)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        context.on("request", self._note_request)
        context.on("response", self._note_response)

    def open(self, path: str) -> None:
        self.page.goto(self.url + path)

    def log_in(self, secret: str, path: str = "/") -> None:
        self.open(path)
        self.page.get_by_label("API token").fill(secret)
        self.page.get_by_role("button", name="Log in").click()

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"console on {self.page.url}: {message.text} ({message.location})")

    def _note_request(self, request: Request) -> None:
        if urlsplit(request.url).netloc not in (self._host, ""):  # "" is data:
            self.wrong.append(f"another host: {request.url}")

    def _note_response(self, response: Response) -> None:
        if response.status >= 400:
            self.wrong.append(f"{response.status}: {response.url}")


def open_visit(
    browser: Browser, site: WebServer, *, width: int = 1280, scheme: Any = "light"
) -> Visit:
    """Open a window of this width; its clock is that of Berlin."""
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme=scheme,
        locale="en-GB",
        timezone_id="Europe/Berlin",
        reduced_motion="reduce",
    )
    return Visit(context, site)


@pytest.fixture
def visit(browser: Browser, site: WebServer) -> Iterator[Visit]:
    visit = open_visit(browser, site)
    yield visit
    visit.page.context.close()
    assert visit.wrong == []

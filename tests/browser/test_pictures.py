"""The pages as the README shows them: light, dark, and as wide as a phone.

Every run opens them and looks for what must not be; `make pictures` also writes the pictures.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from pymongo.database import Database

from automations.demo import seed
from tests.browser.conftest import open_visit
from tests.browser.test_journey import COMMENTS, HOME, LOOKBOOK, make_secret
from tests.support.web_server import WebServer

Db = Database[dict[str, Any]]
PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
# Set by `make pictures`.
IS_WANTED = bool(os.environ.get("WRITE_PICTURES"))
PHONE, DESK = 390, 1280


def find_whole_run(workspace: Db) -> str:
    run = workspace["automation_runs"].find_one(
        {"automationId": LOOKBOOK, "completedAt": {"$ne": None}, "eventId": {"$exists": True}},
        sort={"createdAt": -1},
    )
    assert run is not None
    return str(run["_id"])


@pytest.mark.parametrize(
    ("width", "scheme"), [(DESK, "light"), (DESK, "dark"), (PHONE, "light")],
    ids=["light", "dark", "phone"],
)  # fmt: skip
def test_every_page_as_the_readme_shows_it(
    request: pytest.FixtureRequest, browser: Browser, site: WebServer, workspace: Db,
    width: int, scheme: str,
) -> None:  # fmt: skip
    kind = request.node.callspec.id.split("-")[-1]
    visit = open_visit(browser, site, width=width, scheme=scheme)
    page = visit.page
    visit.log_in(make_secret())
    paths = {
        "overview": (HOME, "Automations"),
        "automation": (f"{HOME}automations/{LOOKBOOK}/", COMMENTS),
        "run": (f"{HOME}runs/{find_whole_run(workspace)}/", "Run of"),
    }
    for name, (path, title) in paths.items():
        visit.open(path)
        expect(page.get_by_role("heading", level=1)).to_contain_text(title)
        overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, f"{name} scrolls sideways by {overflow} px"
        if IS_WANTED:
            PICTURES.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=PICTURES / f"{name}-{kind}.png", animations="disabled")
    page.context.close()
    assert visit.wrong == []


def test_pages_can_be_walked_through_by_keyboard(site: WebServer, browser: Browser) -> None:
    visit = open_visit(browser, site)
    page = visit.page
    visit.log_in(make_secret())
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="New automation")).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.context.close()
    assert visit.wrong == []


def test_without_script_the_pages_work_too(site: WebServer, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site.url)
    page.get_by_label("API token").fill(make_secret())
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("switch", name=COMMENTS).click()
    expect(page.get_by_role("switch", name=COMMENTS)).to_have_attribute("aria-checked", "false")
    page.get_by_role("link", name=COMMENTS).click()
    page.get_by_label("Time zone").select_option("Asia/Tokyo")
    page.get_by_role("button", name="Set").click()
    expect(page.get_by_text("Times in Asia/Tokyo")).to_be_visible()
    expect(page.locator(".runs tbody tr")).to_have_count(25)
    assert seed.WORKSPACE_ID in page.url
    context.close()

"""What an operator does in a browser, from the login to the logout, against a real server."""

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from playwright.sync_api import expect
from pymongo.database import Database

from automations.auth.tokens import create_token
from automations.dashboard.labels import STEPS
from automations.demo import seed
from tests.browser.conftest import Visit
from tests.support.web_server import WebServer, post_signed
from tests.support.webhook_cases import build_body, build_comment
from tracking.clock import format_time

Db = Database[dict[str, Any]]

HOME = f"/workspaces/{seed.WORKSPACE_ID}/"
COMMENTS = "Comment LINK → the lookbook"
LOOKBOOK = "6650c0de0000000000000001"


def make_secret() -> str:
    secret, _ = create_token(workspace_id=seed.WORKSPACE_ID, at=datetime.now(UTC), name="Ada")
    return secret


def post_comment(site: WebServer, number: int, text: str) -> str:
    comment = build_comment(number, text=text)
    body = build_body(comment, account_id=seed.ACCOUNT_ID)
    assert post_signed(site.port, body) == 200
    person: str = comment["from"]["id"]
    return person


def test_an_operators_day(site: WebServer, workspace: Db, visit: Visit) -> None:
    page = visit.page
    visit.log_in(make_secret())
    expect(page).to_have_url(visit.url + HOME)
    see_a_counter_move(visit, site)
    see_a_switch_switch(visit, workspace)
    make_an_automation(visit, workspace)
    look_at_the_chart(visit)
    export_runs(visit, workspace)
    person = look_for_a_person(visit, workspace)
    follow_a_run(visit, person)
    use_the_browsable_api(visit, workspace)
    log_out(visit)


def see_a_counter_move(visit: Visit, site: WebServer) -> None:
    """After a signed webhook, and without a reload."""
    page = visit.page
    total = page.get_by_role("row").filter(has_text=COMMENTS).locator("[data-label=Total]")
    before = int(total.inner_text().replace(",", ""))
    page.evaluate("window.isStillThere = true")
    for number in (1, 2):
        post_comment(site, number, "the link please")
        expect(total).to_have_text(f"{before + number:,}")
    assert page.evaluate("window.isStillThere")


def see_a_switch_switch(visit: Visit, workspace: Db) -> None:
    switch = visit.page.get_by_role("switch", name=COMMENTS)
    for is_on in (False, True):
        switch.focus()
        visit.page.keyboard.press("Enter")
        expect(switch).to_have_attribute("aria-checked", str(is_on).lower())
        expect(switch).to_be_focused()
        stored = workspace["automations"].find_one({"name": COMMENTS})
        assert stored is not None
        assert stored["isActive"] is is_on


def make_an_automation(visit: Visit, workspace: Db) -> None:
    """By the form, whose parts for comments go when it answers something else."""
    page = visit.page
    page.get_by_role("link", name="New automation").click()
    page.get_by_label("Name").fill("Prices")
    expect(page.get_by_role("group", name="Public reply")).to_be_visible()
    page.get_by_label("Answers").select_option("dm_auto_responder")
    expect(page.get_by_role("group", name="Public reply")).to_be_hidden()
    page.get_by_label("Keywords").fill("price\nhow much")
    page.get_by_label("Links").fill("See prices | https://shop.example.com/prices")
    page.get_by_role("group", name="Main message").get_by_label("Text").fill("Here they are")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Prices")
    stored = workspace["automations"].find_one({"name": "Prices"})
    assert stored is not None
    assert stored["trigger"]["keywords"] == ["price", "how much"]
    visit.open(HOME)


def look_at_the_chart(visit: Visit) -> None:
    page = visit.page
    page.get_by_role("link", name=COMMENTS).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(COMMENTS)
    chart = page.get_by_role("img", name=f"Runs of {COMMENTS}")
    for name, rows in (("24 hours", 24), ("90 days", 90), ("7 days", 168)):
        page.get_by_role("link", name=name).click()
        expect(chart).to_be_visible()
        page.get_by_text("As a table").click()
        expect(page.locator(".scroll tbody tr")).to_have_count(rows)
    page.get_by_label("Time zone").select_option("Asia/Kathmandu")
    expect(page.get_by_text("Times in Asia/Kathmandu")).to_be_visible()


def export_runs(visit: Visit, workspace: Db) -> None:
    """As CSV, which has the runs that the database has."""
    with visit.page.expect_download() as download:
        visit.page.get_by_role("link", name="Export CSV").click()
    with Path(download.value.path()).open(encoding="utf-8-sig", newline="") as file:
        exported = list(csv.DictReader(file))
    stored = list(workspace["automation_runs"].find({"automationId": LOOKBOOK}))
    assert len(exported) == len(stored)
    by_id = {str(run["_id"]): run for run in stored}
    for row in exported:
        run = by_id.pop(row["_id"])
        assert row["userId"] == run["userId"]
        assert row["createdAt"] == format_time(run["createdAt"])
        assert row["messageText"] == run["metadata"]["messageText"]
        assert {step: row[step] for step in STEPS if row[step]} == {
            step: result["state"] for step, result in run.get("steps", {}).items()
        }
    assert not by_id


def look_for_a_person(visit: Visit, workspace: Db) -> str:
    """Narrow the runs until the newest person alone is left; return the person."""
    page = visit.page
    rows = page.locator(".runs tbody tr")
    expect(rows).to_have_count(25)
    page.get_by_label("Outcome").select_option("failed")
    page.get_by_role("button", name="Filter").click()
    failed = workspace["automation_runs"].count_documents(
        {"automationId": LOOKBOOK, "steps": {"$exists": True}, "completedAt": None,
         "$or": [{f"steps.{step}.state": "failed"} for step in STEPS]}
    )  # fmt: skip
    expect(rows).to_have_count(min(failed, 25))
    page.get_by_role("link", name="Clear").click()
    expect(rows).to_have_count(25)
    person: str = build_comment(2)["from"]["id"]
    page.get_by_label("Person").fill(person)
    page.keyboard.press("Enter")
    expect(rows).to_have_count(1)
    return person


def follow_a_run(visit: Visit, person: str) -> None:
    page = visit.page
    page.locator(".runs tbody th a").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Run of")
    entries = page.get_by_role("listitem")
    expect(entries.first).to_contain_text("A person commented and the run was counted")
    expect(entries.first).to_contain_text("the link please")
    expect(entries.last).to_contain_text("is queued")
    expect(page.locator(".facts")).to_contain_text(person)


def use_the_browsable_api(visit: Visit, workspace: Db) -> None:
    """List, create by the HTML form, change by the raw one."""
    page = visit.page
    page.get_by_role("link", name="API documents").click()
    expect(page.get_by_text("Automation run tracking").first).to_be_visible()
    expect(page.locator(".opblock").first).to_be_visible()
    visit.open(HOME)
    page.get_by_role("link", name="API", exact=True).click()
    expect(page.locator(".response-info")).to_contain_text('"success": true')
    expect(page.locator(".response-info")).to_contain_text(COMMENTS)
    page.get_by_role("link", name="HTML form").click()
    form = page.locator("#post-object-form")
    form.locator("[name=name]").fill("Made in a browser")
    form.locator("[name=accountId]").fill(seed.ACCOUNT_ID)
    form.locator("[name='trigger.keywords']").fill("browser")
    form.locator("[name='mainDm.text']").fill("Here it is")
    form.get_by_role("button", name="POST").click()
    expect(page.locator(".response-info")).to_contain_text("HTTP 201")
    stored = workspace["automations"].find_one({"name": "Made in a browser"})
    assert stored is not None
    assert stored["trigger"]["keywords"] == ["browser"]
    visit.open(f"/api{HOME}automations/{stored['_id']}")
    raw = page.locator("textarea[name=_content]")
    raw.fill(raw.input_value().replace("Made in", "Changed in"))
    page.get_by_role("button", name="PATCH").click()
    expect(page.locator(".response-info")).to_contain_text("Changed in a browser")
    assert workspace["automations"].count_documents({"name": "Changed in a browser"}) == 1
    visit.open(HOME)
    expect(page.get_by_role("link", name="Changed in a browser")).to_be_visible()


def log_out(visit: Visit) -> None:
    page = visit.page
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    visit.open(HOME)
    expect(page).to_have_url(f"{visit.url}/login?next={HOME.replace('/', '%2F')}")

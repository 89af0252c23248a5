"""What an operator does in a browser, from the login to the logout, against a real server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from playwright.sync_api import expect
from pymongo.database import Database

from automations import seed
from automations.tokens import create_token
from tests.acceptance.processes import request
from tests.browser.conftest import Visit
from tests.web_server import WebServer
from tests.webhook_cases import build_body, build_comment, sign

Db = Database[dict[str, Any]]

HOME = f"/workspaces/{seed.WORKSPACE_ID}/"
COMMENTS = "Comment LINK → the lookbook"


def make_secret() -> str:
    secret, _ = create_token(workspace_id=seed.WORKSPACE_ID, at=datetime.now(UTC), name="Ada")
    return secret


def post_comment(site: WebServer, number: int, text: str) -> str:
    """Post a signed comment as Meta would; return the person who wrote it."""
    comment = build_comment(number, text=text)
    body = build_body(comment, account_id=seed.ACCOUNT_ID)
    status, _ = request(
        site.port, "/api/webhooks/instagram", method="POST", body=body,
        X_Hub_Signature_256=sign(body), Content_Type="application/json",
    )  # fmt: skip
    assert status == 200
    person: str = comment["from"]["id"]
    return person


def test_an_operators_day(site: WebServer, workspace: Db, visit: Visit) -> None:
    page = visit.page
    visit.log_in(make_secret())
    expect(page).to_have_url(visit.url + HOME)

    # A counter moves after a webhook, without a reload.
    row = page.get_by_role("row").filter(has_text=COMMENTS)
    total = row.locator("[data-label=Total]")
    before = int(total.inner_text().replace(",", ""))
    page.evaluate("window.isStillThere = true")
    post_comment(site, 1, "the link please")
    expect(total).to_have_text(f"{before + 1:,}")
    assert page.evaluate("window.isStillThere")

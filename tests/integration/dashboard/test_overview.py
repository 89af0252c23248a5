"""The first page: what it shows, how it stays alive, and what a poll reads."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from automations.dashboard import overview
from tests.integration.dashboard.conftest import read_version
from tests.support.api_client import Db, build_automation, build_run
from tracking import service

HOME = "/workspaces/ws1/"
LIVE = "/workspaces/ws1/live"
HTMX = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def _no_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    # A test that straddles the end of a span would see a change that nobody made.
    monkeypatch.setattr(overview, "_REFRESH_SECONDS", 10**9)


def read_cells(page: str, automation_id: str) -> dict[str, str]:
    """The labelled cells of an automation's row, as text."""
    [row] = [one for one in page.split("<tr ") if f'id="a-{automation_id}"' in one]
    cells = re.findall(r'data-label="([^"]+)">(.*?)</td>', row, re.DOTALL)
    return {name: re.sub(r"<[^>]+>", "", text).strip() for name, text in cells}


def count_run(automation_id: str = "a1", user_id: str = "u1") -> None:
    assert service.track_automation_run(automation_id, "ws1", "main_dm", user_id)


def test_it_shows_every_automation_with_its_counts(db: Db, visitor: Client) -> None:
    db["automations"].insert_many([
        build_automation(_id="a1", name="Price <list>"),
        build_automation(_id="a2", isActive=False, type="story_reply"),
        build_automation(_id="a3", workspaceId="ws2", name="Of others"),
    ])  # fmt: skip
    ages = [timedelta(hours=1), timedelta(hours=30), timedelta(days=8)]
    db["automation_runs"].insert_many(build_run("a1", age=age) for age in ages)
    call_command("add_run_fields", verbosity=0)
    count_run()
    page = visitor.get(HOME).text
    assert read_cells(page, "a1") == {
        "24 hours": "2", "7 days": "3", "Total": "4", "Last run": "just now",
    }  # fmt: skip
    assert read_cells(page, "a2")["Last run"] == "never"
    assert "Price &lt;list&gt;" in page
    assert "Of others" not in page
    assert page.count('aria-checked="true"') == page.count('aria-checked="false"') == 1
    assert page.count('<svg class="spark"') == 1


def test_an_empty_workspace_says_what_to_do(visitor: Client) -> None:
    page = visitor.get(HOME).text
    assert "No automations yet" in page
    assert 'href="/workspaces/ws1/new-automation/"' in page
    assert "http://testserver/api/workspaces/ws1/automations" in page


def test_without_statistics_there_are_totals_alone(db: Db, visitor: Client, settings: Any) -> None:
    settings.TRACKING_STATS_ENABLED = False
    db["automations"].insert_one(build_automation(_id="a1"))
    count_run()
    cells = read_cells(visitor.get(HOME).text, "a1")
    assert cells == {"Total": "1", "Last run": "just now"}


class TestPolling:
    @pytest.fixture
    def version(self, db: Db, visitor: Client) -> str:
        db["automations"].insert_one(build_automation(_id="a1"))
        return read_version(visitor.get(HOME).text)

    def test_nothing_new_is_204_also_when_another_workspace_changes(
        self, db: Db, visitor: Client, version: str
    ) -> None:
        response = visitor.get(LIVE, {"v": version}, headers=HTMX)
        assert (response.status_code, response.content) == (204, b"")
        db["automations"].insert_one(build_automation(workspaceId="ws2"))
        assert visitor.get(LIVE, {"v": version}, headers=HTMX).status_code == 204

    def test_a_run_is_in_the_next_answer(self, visitor: Client, version: str) -> None:
        for number in range(1, 4):
            count_run(user_id=f"u{number}")
            response = visitor.get(LIVE, {"v": version}, headers=HTMX)
            assert response.status_code == 200
            assert read_cells(response.text, "a1")["Total"] == str(number)
            assert "<html" not in response.text
            version = read_version(response.text)

    @pytest.mark.parametrize(
        "change", [{"name": "New"}, {"isActive": False}, {"type": "story_reply"},
                   {"deletedAt": datetime(2026, 1, 1, tzinfo=UTC)}],
    )  # fmt: skip
    def test_a_change_of_another_program_is_seen(
        self, db: Db, visitor: Client, version: str, change: dict[str, Any]
    ) -> None:
        db["automations"].update_one({"_id": "a1"}, {"$set": change})
        assert visitor.get(LIVE, {"v": version}, headers=HTMX).status_code == 200

    def test_windows_move_on_by_themselves(
        self, visitor: Client, version: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(overview, "_REFRESH_SECONDS", 10**6)
        assert visitor.get(LIVE, {"v": version}, headers=HTMX).status_code == 200


class TestSwitching:
    @pytest.mark.parametrize(("to", "is_active"), [("off", False), ("on", True)])
    def test_a_form_switches(self, db: Db, visitor: Client, to: str, is_active: bool) -> None:
        db["automations"].insert_one(build_automation(_id="a1", isActive=not is_active))
        response = visitor.post(f"{HOME}automations/a1/switch", {"to": to})
        assert (response.status_code, response["Location"]) == (302, HOME)
        [stored] = db["automations"].find()
        assert stored["isActive"] is is_active
        assert datetime.now(UTC) - stored["updatedAt"] < timedelta(minutes=1)

    def test_htmx_gets_the_list(self, db: Db, visitor: Client) -> None:
        db["automations"].insert_one(build_automation(_id="a1"))
        response = visitor.post(f"{HOME}automations/a1/switch", {"to": "off"}, headers=HTMX)
        assert response.status_code == 200
        assert 'aria-checked="false"' in response.text


class TestAccounts:
    def test_without_one_it_says_how_to_add_one(self, visitor: Client) -> None:
        assert "manage.py add_account" in visitor.get(HOME).text

    @pytest.mark.parametrize(
        ("fields", "words"),
        [({"state": "active", "token": "x"}, "Sends."),
         ({"state": "active"}, "No access token"),
         ({"state": "token_dead", "token": "x", "stateReason": "Code 190"}, "Code 190"),
         ({"state": "restricted", "token": "x"}, "has restricted the account"),
         ({"workspaceId": "ws2", "token": "x", "stateReason": "Code 190"},
          "Another workspace has this account")],
    )  # fmt: skip
    def test_each_state_is_told_plainly_and_nothing_of_another_workspace(
        self, db: Db, visitor: Client, fields: dict[str, Any], words: str
    ) -> None:
        is_ours = "workspaceId" not in fields
        db["automations"].insert_one(build_automation(accountId="178414"))
        db["accounts"].insert_many([
            {"_id": "178414", "workspaceId": "ws1", **fields},
            {"_id": "178499", "workspaceId": "ws2", "state": "active"},
        ])  # fmt: skip
        page = visitor.get(HOME).text
        assert words in page
        assert ("The queue is empty." in page) is is_ours
        assert ("Code 190" in page) is (is_ours and "stateReason" in fields)
        assert "178499" not in page

    def test_what_waits_is_told_with_its_end(self, db: Db, visitor: Client) -> None:
        db["automations"].insert_one(build_automation(accountId="178414"))
        db["accounts"].insert_one({"_id": "178414", "workspaceId": "ws1", "token": "x"})
        version = read_version(visitor.get(HOME).text, "accounts")
        poll = f"{HOME}accounts"
        assert visitor.get(poll, {"v": version}, headers=HTMX).status_code == 204
        now = datetime.now(UTC)
        db["automation_triggers"].insert_many(
            {"_id": f"178414:comment:{number}", "accountId": "178414", "state": "queued",
             "nextAt": now, "send": {"via": "private_reply", "windowEndsAt": now}}
            for number in range(800)
        )  # fmt: skip
        response = visitor.get(poll, {"v": version}, headers=HTMX)
        assert response.status_code == 200
        # 40 at once, then 690 an hour.
        assert re.search(r"800 waiting, done in about 66 minutes \(.*\d\d:\d\d\)", response.text)

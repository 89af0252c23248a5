"""An automation's page: chart and table, funnel, what was not counted, and the runs below."""

import csv
import html
import io
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from tests.integration.dashboard.conftest import list_texts
from tests.support.api_client import Db, build_automation, log_in
from tests.support.triggers import count_triggers, make_trigger
from tracking import service
from tracking.queries import run_store
from tracking.rollups.outcomes import StepOutcome

PAGE = "/workspaces/ws1/automations/a1/"
HOUR = timedelta(hours=1)


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def visitor(db: Db) -> Client:
    db["automations"].insert_one(
        build_automation(_id="a1", openingDm={"text": "Hi", "button": "Yes"})
    )
    return log_in()


def record(*arrivals: tuple[str, datetime], **fields: Any) -> None:
    """Count a trigger of each (person, arrival)."""
    post_id = fields.pop("post_id", None)
    fields = {"account_id": "178414", "workspace_id": "ws1", "trigger_type": "opening_dm"} | fields
    count_triggers(
        *(
            make_trigger(
                user_id=person, arrived_at=at,
                metadata={"messageText": f"from {person}", "postId": post_id}, **fields,
            )
            for person, at in arrivals
        )
    )  # fmt: skip


def tell(db: Db, person: str, step: str, state: str, **more: Any) -> None:
    [run] = db["automation_runs"].find({"userId": person})
    service.record_step_outcomes(
        [StepOutcome(run_id=run["_id"], automation_id="a1", step=step, state=state,
                     at=run["createdAt"] + timedelta(seconds=2), **more)]
    )  # fmt: skip


def read_section(page: str, title: str) -> str:
    [text] = list_texts(page, f'<section[^>]*aria-labelledby="{title}".*?</section>')
    return text


def list_persons(page: str) -> list[str]:
    return re.findall(r'class="person"[^>]*>([^<]+)</a>', page)


class TestChart:
    @pytest.mark.parametrize(
        ("span", "rows"), [("24h", 24), ("7d", 168), ("90d", 90), ("", 168), ("x", 168)]
    )
    def test_each_span_has_its_bars_and_a_table_of_them(
        self, visitor: Client, now: datetime, span: str, rows: int
    ) -> None:
        record(("u1", now), ("u2", now), ("u1", now - timedelta(minutes=1)))
        page = visitor.get(PAGE, {"span": span}).text
        [table] = list_texts(page, r'aria-label="Runs as a table".*?</table>')
        assert len(re.findall(r'<th scope="row">\w+ \d+ \w+', page)) == rows
        assert table.endswith(" 2 1 2")  # runs, duplicates, new people of the bar of now
        assert page.count('class="bar-mark"') == 1
        assert re.search(r'<rect class="bar-mark"[^>]*><title>[^<]+: 2</title>', page)
        assert 'aria-labelledby="chart-name chart-about"' in page

    def test_bars_are_those_of_the_readers_zone(self, visitor: Client, now: datetime) -> None:
        record(("u1", now))
        visitor.cookies["zone"] = "Asia/Kathmandu"  # 5:45 from UTC
        page = visitor.get(PAGE, {"span": "24h"}).text
        local = now + timedelta(hours=5, minutes=45)
        assert f"{local.day} {local:%b, %H}:00: 1</title>" in page
        assert "Times in Asia/Kathmandu" in page

    @pytest.mark.parametrize(
        ("zone", "target", "chosen"),
        [
            ("America/New_York", f"{PAGE}?span=90d", "America/New_York"),
            ("Nowhere", PAGE, "UTC"),
            ("", "//evil.example", "UTC"),
            ("UTC", "https://x.y", "UTC"),
        ],
    )
    def test_a_zone_can_be_chosen(
        self, visitor: Client, zone: str, target: str, chosen: str
    ) -> None:
        response = visitor.post("/workspaces/ws1/zone", {"zone": zone, "next": target})
        own = target if target.startswith(PAGE) else "/workspaces/ws1/"
        assert (response.status_code, response["Location"]) == (302, own)
        if chosen != "UTC":
            visitor.cookies["zone"] = "Asia/Kathmandu"  # what is chosen goes before
        assert f"<option selected>{chosen}</option>" in visitor.get(PAGE).text


class TestProgress:
    def test_the_funnel_and_what_became_of_each_message(
        self, db: Db, visitor: Client, now: datetime
    ) -> None:
        record(("u1", now), ("u2", now), ("u3", now), ("u4", now))
        for person in ("u1", "u2", "u3"):
            tell(db, person, "opening_dm", "sent")
        tell(db, "u4", "opening_dm", "failed", reason="outside_window", code=10, subcode=2534022)
        tell(db, "u1", "main_dm", "sent", is_completed=True)
        text = read_section(visitor.get(PAGE).text, "funnel-title")
        assert "Started 4 100 %" in text
        assert "Got the opening message 3 75 %" in text
        assert "Asked to follow" not in text  # it has no such step
        assert "Completed 1 25 %" in text
        why = "the person has not written for 24 hours (Instagram’s error 10.2534022) 1"
        assert f"not delivered : {why}" in text
        assert "Main message sent 1" in text

    def test_two_hundred_comments_and_why_not_all_are_runs(
        self, visitor: Client, now: datetime
    ) -> None:
        record(*((f"u{number % 140}", now) for number in range(140)))
        record(*((f"u{number}", now + timedelta(milliseconds=1)) for number in range(60)))
        service.note_ignored(
            [{"178414": {"own_comment": 7, "test": 1}}], redelivered={"178414": 5}, at=now
        )
        service.close()
        text = read_section(visitor.get(PAGE).text, "uncounted-title")
        assert "200 events started this automation in the last 7 days, 140 of them are runs" in text
        assert "60 duplicates : the same person" in text
        assert "5 redeliveries" in text
        assert "7 own comment : the account commented itself" in text
        assert "1 test : a sample of Meta's dashboard" in text

    def test_an_automation_without_runs_says_what_to_do(self, visitor: Client) -> None:
        page = visitor.get(PAGE).text
        assert "No runs in this period." in page
        assert "manage.py simulate" in page
        assert "is a run." in read_section(page, "uncounted-title")


class TestRuns:
    def test_filters_narrow_the_runs(self, db: Db, visitor: Client, now: datetime) -> None:
        record(("u1", now), ("u2", now - HOUR))
        record(("u3", now), trigger_type="comment_reply", post_id="p1")
        record(("u4", now - timedelta(days=40)))
        tell(db, "u2", "opening_dm", "failed", reason="permanent")
        for query, persons in (
            ({}, ["u3", "u1", "u2", "u4"]),
            ({"type": "comment_reply"}, ["u3"]),
            ({"outcome": "failed"}, ["u2"]),
            ({"person": " u1 "}, ["u1"]),
            ({"post": "p1"}, ["u3"]),
            ({"to": f"{now - timedelta(days=30):%Y-%m-%d}"}, ["u4"]),
            ({"from": f"{now + timedelta(days=1):%Y-%m-%d}"}, []),
            ({"person": "u1", "type": "comment_reply"}, []),
            ({"type": "x", "outcome": "y", "from": "z", "to": "0000-00-00", "cursor": "!"},
             ["u3", "u1", "u2", "u4"]),
        ):  # fmt: skip
            page = visitor.get(PAGE, query).text
            assert sorted(list_persons(page)) == sorted(persons), query
            assert sorted(self.list_exported(visitor, page)) == sorted(persons), query
            if not persons:
                assert "No run matches." in page

    def test_a_filter_that_looks_at_too_many_runs(
        self, visitor: Client, now: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(run_store, "MOST_RUNS_TO_SEARCH", 1)
        record(("u1", now), ("u2", now))
        page = visitor.get(PAGE, {"post": "p1"})
        assert page.status_code == 200
        assert "more than 1 runs: ask for fewer days" in page.text

    def list_exported(self, visitor: Client, page: str) -> list[str]:
        """The people in the file behind the page's own link."""
        link = re.search(r'href="([^"]+)" download', page)
        assert link
        response = visitor.get(html.unescape(link[1]))
        assert response.status_code == 200, response.text
        text = response.getvalue().decode("utf-8-sig")
        return [row["userId"] for row in csv.DictReader(io.StringIO(text))]

    def test_pages_go_on_where_the_last_one_ended(self, visitor: Client, now: datetime) -> None:
        record(*((f"u{number:02}", now - timedelta(seconds=number)) for number in range(60)))
        seen, path = [], f"{PAGE}?span=24h"
        for _ in range(3):
            page = visitor.get(path).text
            seen += list_persons(page)
            older = re.search(r'href="(\?[^"]+)#runs" rel="next"', page)
            path = PAGE + html.unescape(older[1]) if older else ""
            assert "span=24h" in path or not path
        assert seen == [f"u{number:02}" for number in range(60)]
        assert not path

    def test_what_people_write_is_escaped(self, visitor: Client, now: datetime) -> None:
        record(("<b>u</b>", now))
        page = visitor.get(PAGE, {"person": '"><script>'}).text
        assert "<script>" not in page
        assert "<b>u</b>" not in visitor.get(PAGE).text


@pytest.mark.parametrize(
    ("name", "type_", "shown"), [(7, "p", "matches nothing"), (["x"], {"y": 1}, "Unknown type")]
)
def test_what_an_older_product_left_has_pages(
    db: Db, visitor: Client, name: Any, type_: Any, shown: str
) -> None:
    db["automations"].insert_one({
        "_id": 7, "workspaceId": "ws1", "name": name, "accountId": {"x": 1}, "mainDm": "x",
        "trigger": [1], "type": type_, "isActive": True,
    })  # fmt: skip
    db["automation_runs"].insert_one({
        "_id": "r", "automationId": "7", "workspaceId": "ws1", "createdAt": datetime.now(UTC),
        "metadata": "x", "steps": ["y"],
    })  # fmt: skip
    for path, words in (
        ("", (shown, "matches nothing: its accountId is no text or whole number")),
        ("automations/7/", ("nothing sent yet", "matches nothing: its accountId")),
        ("automations/7/change/", ()),
        ("runs/r/", ()),
    ):
        page = visitor.get(f"/workspaces/ws1/{path}")
        assert page.status_code == 200, path
        assert [word for word in words if word not in page.text] == [], path

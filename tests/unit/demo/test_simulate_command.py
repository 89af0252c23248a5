"""The command `simulate`: what it asks for, what it prints, and how it exits."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from rich.console import Console

from automations.demo.simulation import Plan, Report
from automations.demo.simulation.plan import SimulatedDelivery, SimulatedEvent
from automations.demo.simulation.printing import print_counted, print_report
from automations.demo.simulation.report import Tally, build_report
from automations.management.commands import simulate
from tracking.exceptions import TrackingUnavailable

AUTOMATION = {
    "_id": "a1",
    "workspaceId": "w1",
    "accountId": "17841400000000001",
    "type": "comment_to_dm",
    "isActive": True,
    "trigger": {"keywords": ["Link"], "match": "contains", "postIds": ["77"]},
}


def build_answered(*statuses: str, is_forged: bool = False) -> Report:
    tally = Tally(keep_events=True)
    tally.latencies_ms.extend([1.0, 2.0, 30.0])
    for number, status in enumerate(statuses):
        event = SimulatedEvent(
            sim_kind="dm",
            account_id="1",
            event_id=f"m{number}",
            user_id="2",
            username="mia",
            text="LINK",
        )
        delivery = SimulatedDelivery(
            number=number, events=(event,), body=b"{}", is_forged=is_forged
        )
        tally.add(delivery, status=status, retries=0)
    return build_report([tally], seed=5, seconds=2.0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command asks `run` for; the answers are in `report`."""
    asked: dict[str, Any] = {"report": build_answered("200", "200")}

    def run(plan: Plan, urls: list[str], secret: str, **options: Any) -> Report:
        asked.update(plan=plan, urls=urls, secret=secret, options=options)
        return asked["report"]

    monkeypatch.setattr(simulate, "run", run)
    monkeypatch.setattr(simulate, "list_active_automations", lambda: [AUTOMATION])
    totals = iter([{"a1": ("Link", 5), "a2": ("Idle", 3)}, {"a1": ("Link", 12), "a2": ("Idle", 3)}])
    monkeypatch.setattr(simulate, "read_totals", lambda: next(totals))
    return asked


def test_defaults_come_from_the_active_automations(asked: dict[str, Any]) -> None:
    call_command("simulate", stdout=io.StringIO())
    [target] = asked["plan"].targets
    assert (target.kind, target.account_id) == ("comment", "17841400000000001")
    assert (target.keywords, target.post_ids) == (("link",), ("77",))
    assert asked["plan"].events == 200
    assert asked["urls"] == ["http://127.0.0.1:8000"]
    assert asked["secret"] == "test-app-secret"
    assert asked["options"]["keep_events"] is True


def test_accounts_need_no_database(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(simulate, "list_active_automations")
    monkeypatch.delattr(simulate, "read_totals")
    arguments = ("dm", "--account", "1", "--account", "2", "--text", "hello")
    call_command("simulate", *arguments, stdout=io.StringIO())
    targets = asked["plan"].targets
    assert [(t.kind, t.account_id, t.keywords) for t in targets] == [
        ("dm", "1", ("hello",)),
        ("dm", "2", ("hello",)),
    ]


@pytest.mark.parametrize(
    ("arguments", "events", "keeps"),
    [
        (["--events", "0"], None, False),
        (["--duration", "3"], None, True),
        (["--events", "7", "--duration", "3"], 7, True),
    ],
)
def test_traffic_without_an_end_keeps_no_events(
    asked: dict[str, Any], arguments: list[str], events: int | None, keeps: bool
) -> None:
    call_command("simulate", *arguments, stdout=io.StringIO())
    assert asked["plan"].events == events
    assert asked["options"]["keep_events"] is keeps


def test_json_is_one_object(asked: dict[str, Any]) -> None:
    out = io.StringIO()
    call_command("simulate", "--json", stdout=out)
    shown = json.loads(out.getvalue())
    assert shown["events"]["acknowledged"] == 2
    assert shown["automations"] == [{"id": "a1", "name": "Link", "before": 5, "after": 12}]


def test_what_was_counted_is_told(asked: dict[str, Any]) -> None:
    out = io.StringIO()
    call_command("simulate", stdout=out)
    assert out.getvalue().splitlines()[-1] == "runs of Link: 12 (+7)"
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, color_system=None)
    counted = simulate.list_counted({"a1": ("Link", 5)}, {"a1": ("[b]Link", 1012), "a3": ("x", 1)})
    print_counted(counted, console)
    assert "[b]Link" in out.getvalue()  # a name is no markup
    assert "+1,007" in out.getvalue()
    assert "x" not in out.getvalue()


def test_a_server_whose_database_is_not_ours_is_simulated_all_the_same(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Any:
        raise TrackingUnavailable("away")

    monkeypatch.setattr(simulate, "read_totals", fail)
    out = io.StringIO()
    call_command("simulate", "--json", stdout=out)
    assert json.loads(out.getvalue())["automations"] == []


def test_plain_lines_where_there_is_no_terminal(asked: dict[str, Any]) -> None:
    out = io.StringIO()
    call_command("simulate", stdout=out)
    assert out.getvalue().splitlines()[:4] == [
        "events: 2 of 2 acknowledged",
        "kinds: dm 2",
        "deliveries: 2 (0 of them redeliveries)",
        "answers: 200 x 2",
    ]


def test_a_table_on_a_terminal() -> None:
    out = io.StringIO()
    print_report(build_answered("200", "503"), Console(file=out, force_terminal=True, width=80))
    assert "acknowledged" in out.getvalue()
    assert "p95" in out.getvalue()


@pytest.mark.parametrize(
    "report", [build_answered("200", "503"), build_answered("200", is_forged=True)]
)
def test_what_is_not_as_expected_exits_with_1(asked: dict[str, Any], report: Report) -> None:
    asked["report"] = report
    with pytest.raises((SystemExit, CommandError)):
        call_command("simulate", stdout=io.StringIO())


def test_nobody_there_says_what_to_start(asked: dict[str, Any]) -> None:
    asked["report"] = build_answered("ConnectionRefusedError")
    with pytest.raises(CommandError, match=r"Nobody answers at http://127\.0\.0\.1:8000: start"):
        call_command("simulate", stdout=io.StringIO())


def test_no_automation_for_the_kind_is_said(asked: dict[str, Any]) -> None:
    with pytest.raises(CommandError, match="No active automation in MongoDB can answer dm"):
        call_command("simulate", "dm")


def test_a_missing_secret_is_said(settings: Any) -> None:
    settings.INSTAGRAM_APP_SECRETS = ()
    with pytest.raises(CommandError, match="Set INSTAGRAM_APP_SECRET"):
        call_command("simulate")


@pytest.mark.parametrize(
    "arguments", [["--duplicates", "2"], ["--rate", "-1"], ["--connections", "0"], ["--batch", "0"]]
)
def test_numbers_that_cannot_be_are_refused(asked: dict[str, Any], arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        call_command("simulate", *arguments)

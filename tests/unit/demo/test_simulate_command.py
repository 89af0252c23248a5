import io
import json
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from automations.demo.simulation import Report
from automations.demo.simulation.plan import SimulatedDelivery, SimulatedEvent
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
BEFORE = {"a1": ("[b]Link", 5), "a2": ("Idle", 3)}
AFTER = {"a1": ("[b]Link", 1012), "a2": ("Idle", 3), "a3": ("New", 1)}


def build_answered(*statuses: str, is_forged: bool = False) -> Report:
    report = Report(seed=5, seconds=2.0, latencies_ms=[1.0, 2.0, 30.0])
    for number, status in enumerate(statuses):
        names = {"account_id": "1", "user_id": "2", "username": "mia", "text": "LINK"}
        event = SimulatedEvent(sim_kind="dm", event_id=f"m{number}", **names)
        delivery = SimulatedDelivery(events=(event,), body=b"{}", is_forged=is_forged)
        report.add(delivery, status=status, retries=0)
    return report


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command asks for; the answers are in `report`."""
    asked: dict[str, Any] = {"report": build_answered("200", "200")}

    def send(plan: Any, urls: list[str], secret: str, **options: Any) -> Report:
        asked.update(plan=plan, urls=urls, secret=secret, options=options)
        return asked["report"]

    monkeypatch.setattr(simulate, "generate_deliveries", lambda plan: plan)
    monkeypatch.setattr(simulate, "send_deliveries", send)
    monkeypatch.setattr(simulate, "list_automations", lambda _: [AUTOMATION])
    totals = iter([BEFORE, AFTER])
    monkeypatch.setattr(simulate, "read_totals", lambda: next(totals))
    return asked


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("simulate", *arguments, stdout=out)
    return out.getvalue()


def test_defaults_come_from_the_active_automations(asked: dict[str, Any]) -> None:
    run()
    [target] = asked["plan"].targets
    assert (target.kind, target.account_id) == ("comment", "17841400000000001")
    assert (target.keywords, target.post_ids) == (("link",), ("77",))
    assert asked["plan"].events == 200
    assert asked["urls"] == ["http://127.0.0.1:8000"]
    assert asked["secret"] == "test-app-secret"


def test_accounts_need_no_database(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(simulate, "list_automations")
    monkeypatch.delattr(simulate, "read_totals")
    run("dm", "--account", "1", "--account", "2", "--text", "hello")
    targets = [(t.kind, t.account_id, t.keywords) for t in asked["plan"].targets]
    assert targets == [("dm", "1", ("hello",)), ("dm", "2", ("hello",))]


def test_json_is_one_object(asked: dict[str, Any]) -> None:
    shown = json.loads(run("--json"))
    assert shown["events"]["acknowledged"] == 2
    assert shown["automations"] == [{"id": "a1", "name": "[b]Link", "before": 5, "after": 1012}]


def test_a_server_whose_database_is_not_ours_is_simulated_all_the_same(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Any:
        raise TrackingUnavailable("away")

    monkeypatch.setattr(simulate, "read_totals", fail)
    assert json.loads(run("--json"))["automations"] == []


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (build_answered("200", "503"), "1"),
        (build_answered("200", is_forged=True), "1"),
        (
            build_answered("ConnectionRefusedError"),
            r"No server answers at http://127\.0\.0\.1:8000",
        ),
    ],
)
def test_what_is_not_as_expected_is_an_error(
    asked: dict[str, Any], report: Report, said: str
) -> None:
    asked["report"] = report
    with pytest.raises((SystemExit, CommandError), match=said):
        run()


def test_a_missing_secret_is_said(settings: Any) -> None:
    settings.INSTAGRAM_APP_SECRETS = ()
    with pytest.raises(CommandError, match="Set INSTAGRAM_APP_SECRET"):
        run()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["dm"], "No active automation in MongoDB can answer dm"),
        (["--duplicates", "2"], "invalid share value"),
        (["--duplicates", "few"], "invalid share value"),
        (["--bad-signatures", "1"], "--bad-signatures less than 1"),
        (["--rate", "-1"], "--events are 0 or more"),
        (["--connections", "0"], "invalid count value"),
        (["--batch", "0"], "invalid count value"),
        (["--events", "-1"], "--events are 0 or more"),
    ],
)
def test_what_cannot_be_is_refused(
    asked: dict[str, Any], arguments: list[str], sentence: str
) -> None:
    with pytest.raises(CommandError, match=sentence):
        run(*arguments)

"""Off and on: the result equals never having been off (I7)."""

from __future__ import annotations

import random
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from pymongo.database import Database

from automations.demo import seed
from automations.demo.simulation import Plan, generate_deliveries
from automations.demo.simulation.plan import KINDS
from automations.demo.simulation.targets import build_targets
from automations.webhook.deliveries import handle_delivery
from tests.support.recount import recount
from tests.support.reference_model import ReferenceModel
from tracking import service
from tracking.counting.switch import SwitchState, read_switch, write_switch
from tracking.maintenance.replay import Replayer
from tracking.runs import Outcome, Trigger

Document = dict[str, Any]
HOUR = timedelta(hours=1)
START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=6)


def build_trigger(number: int, user_id: str, at: datetime, automation: str = "a1") -> Trigger:
    return Trigger(
        account_id="acc", kind="comment", event_id=f"e{number}", automation_key=automation,
        automation_id=automation, workspace_id="w1", trigger_type="opening_dm", user_id=user_id,
        arrived_at=at, metadata={"messageText": "LINK"},
    )  # fmt: skip


def run_command(*args: str) -> list[str]:
    out = StringIO()
    call_command("tracking", *args, stdout=out)
    return out.getvalue().splitlines()


@pytest.fixture
def automations(db: Database[Document]) -> Database[Document]:
    db["automations"].insert_many([{"_id": "a1", "workspaceId": "w1"}, {"_id": "a2"}])
    return db


def model_outcomes(triggers: list[Trigger]) -> list[str]:
    """What a product that never was off says."""
    newest: dict[tuple[str, str], datetime] = {}
    outcomes = []
    for trigger in triggers:
        pair = (trigger.automation_id, trigger.user_id)
        is_counted = pair not in newest or trigger.arrived_at > newest[pair] + HOUR
        if is_counted:
            newest[pair] = trigger.arrived_at
        outcomes.append("counted" if is_counted else "duplicate")
    return outcomes


@pytest.mark.parametrize("seed", range(5))
def test_off_and_on_equals_never_off(automations: Database[Document], seed: int) -> None:
    chance = random.Random(seed)
    at = START
    triggers = []
    for number in range(300):
        at += timedelta(milliseconds=chance.choice([1, 500, 60_000, 240_000]))
        user = f"p{chance.randrange(12)}"
        triggers.append(build_trigger(number, user, at, chance.choice(["a1", "a2"])))
    for index, trigger in enumerate(triggers):
        if index in (60, 200):
            run_command("off")
        if index in (150, 280):
            run_command("on")
        service.record_triggers([trigger])
    stored = {one["_id"]: one for one in automations["automation_triggers"].find()}
    outcomes = [stored[f"acc:comment:e{number}"]["outcome"] for number in range(300)]
    assert outcomes == model_outcomes(triggers)
    assert recount(automations) == []
    assert all("metadata" not in one and "expireAt" in one for one in stored.values())


def test_an_hour_off_in_simulated_traffic_equals_never_off(db: Database[Document]) -> None:
    """Three hours of Meta's deliveries, redeliveries included, tracking off in the middle one."""
    now = datetime.now(UTC).replace(microsecond=0)
    start = now - 3 * HOUR
    documents = seed.build_automations(now=now)
    db["automations"].insert_many(documents)
    plan = Plan(targets=build_targets(documents, kinds=KINDS), events=700, duplicates=0.5, seed=7)
    at = start
    deliveries = generate_deliveries(plan, clock_ms=lambda: int(at.timestamp() * 1000))
    is_off = False
    for delivery in deliveries:
        if is_off != (start + HOUR <= at < start + 2 * HOUR):
            is_off = not is_off
            run_command("off" if is_off else "on")
        handle_delivery(delivery.body, arrived_at=at)
        at = min(at + timedelta(seconds=37), now)
    assert at > start + 2 * HOUR
    assert not is_off
    service.close()
    model = ReferenceModel(HOUR)
    stored = list(db["automation_triggers"].find().sort([("createdAt", 1), ("_id", 1)]))
    assert len(stored) > 500
    outcomes: dict[str, Counter[tuple[str, str, datetime, str]]] = {
        "stored": Counter(), "never off": Counter(),
    }  # fmt: skip
    for one in stored:
        pair = one["automationId"], one["userId"], one["createdAt"]
        outcomes["stored"][*pair, one["outcome"]] += 1
        outcomes["never off"][*pair, model.record(one["_id"], *pair)] += 1
    assert outcomes["stored"] == outcomes["never off"]
    assert {outcome for *_, outcome in outcomes["stored"]} == {"counted", "duplicate"}
    for automation in db["automations"].find():
        name = str(automation["_id"])
        assert automation["totalRuns"] == model.count_total(name)
        assert automation["lastRunAt"] == model.find_last_run_at(name)
    assert recount(db) == []


def test_replays_keep_their_arrival_and_what_the_run_says(automations: Database[Document]) -> None:
    run_command("off")
    assert service.record_triggers([build_trigger(1, "p1", START)]) == [Outcome.UNTRACKED]
    assert automations["automation_runs"].count_documents({}) == 0
    lines = run_command("on")
    assert lines[0] == "untracked triggers counted: 1"
    [run] = automations["automation_runs"].find()
    assert run["createdAt"] == START
    assert run["metadata"] == {"messageText": "LINK"}
    assert automations["automations"].find_one({"_id": "a1"})["totalRuns"] == 1  # type: ignore[index]


def test_status_says_what_waits(automations: Database[Document], settings: Any) -> None:
    assert run_command("status") == [
        "tracking: on", "stats: on", "untracked triggers waiting: 0",
    ]  # fmt: skip
    run_command("off")
    service.record_triggers([build_trigger(1, "p1", START)])
    settings.TRACKING_STATS_ENABLED = False
    tracking, stats, waiting = run_command("status")
    assert tracking.startswith("tracking: off since ")
    assert stats == "stats: on, but the environment says off (TRACKING_STATS_ENABLED)"
    assert waiting == "untracked triggers waiting: 1"


def test_the_switch_of_stats_is_its_own(automations: Database[Document]) -> None:
    run_command("off", "--stats")
    assert not service.is_stats_enabled()
    assert read_switch(automations) is SwitchState.ON
    run_command("on", "--stats")
    assert service.is_stats_enabled()


@pytest.mark.parametrize(("distance", "outcome"), [
    (timedelta(minutes=30), "duplicate"), (HOUR, "duplicate"),
    (HOUR + timedelta(milliseconds=1), "counted"),
])  # fmt: skip
@pytest.mark.parametrize("sign", [1, -1])
def test_after_a_failure_a_run_on_either_side_makes_it_a_duplicate(
    automations: Database[Document], distance: timedelta, outcome: str, sign: int
) -> None:
    middle = START + 2 * HOUR
    write_switch(automations, "tracking", SwitchState.OFF, now=START)
    service.record_triggers([build_trigger(1, "p1", middle)])
    write_switch(automations, "tracking", SwitchState.ON, now=START)  # as if counting had failed
    service.record_triggers([build_trigger(2, "p1", middle + sign * distance)])
    Replayer(automations, window=HOUR).replay_all(now=datetime.now(UTC))
    trigger = automations["automation_triggers"].find_one({"_id": "acc:comment:e1"})
    assert trigger is not None
    assert trigger["outcome"] == outcome
    assert recount(automations) == []


def test_nothing_is_left_behind_while_traffic_flows(automations: Database[Document]) -> None:
    stop = threading.Event()
    sent = 0

    def send() -> None:
        nonlocal sent
        while not stop.is_set():
            sent += 1
            at = datetime.now(UTC)
            at = at.replace(microsecond=at.microsecond // 1000 * 1000)
            service.record_triggers([build_trigger(sent, f"p{sent}", at)])

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(3):
            run_command("off")
            run_command("on")
    finally:
        stop.set()
        sender.join()
    untracked = automations["automation_triggers"].count_documents({"outcome": "untracked"})
    assert untracked == 0
    assert automations["automation_runs"].count_documents({}) == sent
    assert recount(automations) == []


def test_a_flush_waits_while_catching_up_ends(automations: Database[Document]) -> None:
    held_until = datetime.now(UTC) + timedelta(milliseconds=300)
    write_switch(automations, "tracking", SwitchState.CATCHING_UP, now=START, held_until=held_until)
    assert read_switch(automations) is SwitchState.HELD
    # A hold ends by itself: whoever took it may have been killed.
    assert service.record_triggers([build_trigger(1, "p1", START)]) == [Outcome.UNTRACKED]
    assert datetime.now(UTC) >= held_until

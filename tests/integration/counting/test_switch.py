"""Off and on: the result equals never having been off (I7)."""

import time
from collections import Counter
from datetime import UTC, datetime, timedelta

from automations.demo import seed
from automations.demo.simulation import Plan, generate_deliveries
from automations.demo.simulation.plan import KINDS, build_targets
from automations.webhook.deliveries import handle_delivery
from tests.integration.conftest import Db, flow
from tests.support.oracle import recount
from tests.support.reference_model import ReferenceModel
from tests.support.triggers import make_trigger, now_in_milliseconds
from tests.support.uncounted import count_everything
from tracking import service
from tracking.counting.switch import SwitchState, read_switch, write_switch
from tracking.runs import Outcome

HOUR = timedelta(hours=1)


def switch(db: Db, state: SwitchState) -> None:
    write_switch(db, "tracking", state, now=now_in_milliseconds())


def test_a_switch_never_touched_is_on_and_an_unknown_state_is_off(db: Db) -> None:
    assert read_switch(db) is SwitchState.ON
    db["tracking_switch"].insert_one({"_id": "tracking", "state": "half"})
    assert read_switch(db) is SwitchState.OFF
    assert read_switch(db, "stats") is SwitchState.ON
    switch(db, SwitchState.ON)
    assert read_switch(db) is SwitchState.ON


def test_an_hour_off_in_simulated_traffic_equals_never_off(db: Db) -> None:
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
            switch(db, SwitchState.OFF if is_off else SwitchState.ON)
        handle_delivery(delivery.body, arrived_at=at)
        at = min(at + timedelta(seconds=60), now)
    assert at > start + 2 * HOUR
    assert not is_off
    count_everything(db)
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


def test_nothing_is_left_behind_while_traffic_flows(db: Db) -> None:
    def send(number: int) -> None:
        trigger = make_trigger(user_id=f"p{number}", arrived_at=now_in_milliseconds())
        assert service.record_triggers([trigger]) == [Outcome.STORED]

    with flow(send) as sent:
        for _ in range(3):
            for state in (SwitchState.OFF, SwitchState.ON):
                switch(db, state)
                time.sleep(0.2)
    count_everything(db)
    assert db["automation_runs"].count_documents({}) == len(sent) > 3
    assert recount(db) == []

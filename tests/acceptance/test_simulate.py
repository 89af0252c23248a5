"""`simulate` against two servers, one of them killed on the way: every figure is recounted."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from pymongo.database import Database

from automations.demo import seed
from automations.demo.simulation import Plan, run
from automations.demo.simulation.plan import KINDS
from automations.demo.simulation.targets import build_targets
from tests.acceptance.processes import (
    APP_SECRET,
    Command,
    build_environment,
    find_free_port,
    running,
    wait_until,
)
from tests.support.recount import recount
from tracking.ids import parse_trigger_id

EVENTS = 5000


def insert_automations(db: Database[dict[str, Any]]) -> list[dict[str, Any]]:
    automations = seed.build_automations(now=datetime.now(UTC))
    db["automations"].insert_many(automations)
    return automations


def find_uri(settings: Any) -> str:
    uri: str = settings.MONGODB_URI
    return uri


def test_nothing_is_lost_or_counted_twice_when_one_of_two_servers_is_killed(
    db: Database[dict[str, Any]], settings: Any
) -> None:
    environment = build_environment(MONGODB_URI=find_uri(settings))
    plan = Plan(
        targets=build_targets(insert_automations(db), kinds=KINDS),
        events=EVENTS,
        duplicates=0.3,
        redeliveries=0.3,
        bad_signatures=0.02,
        seed=20261123,
    )

    with ExitStack() as stack:

        def serve(port: int) -> Command:
            arguments = ("serve", "--port", str(port), "--processes", "1")
            command = stack.enter_context(running(*arguments, environment=environment))
            command.wait_for_line("Stop with Ctrl-C")
            return command

        ports = [find_free_port()]
        serve(ports[0])
        ports.append(find_free_port())
        victim = serve(ports[1])
        restart = threading.Thread(target=serve, args=(ports[1],))

        def kill_on_the_way(events: int) -> None:
            if events > EVENTS / 3 and restart.ident is None:
                victim.process.kill()
                restart.start()

        report = run(
            plan,
            [f"http://127.0.0.1:{port}" for port in ports],
            APP_SECRET,
            connections=16,
            is_retrying=True,
            on_progress=kill_on_the_way,
        )
        restart.join()
    assert report.is_as_expected
    assert report.forged > 0
    assert len(report.acknowledged) == EVENTS

    assert recount(db) == []
    triggers = list(db["automation_triggers"].find())
    assert {parse_trigger_id(one["_id"]) for one in triggers} == {
        (event.account_id, event.kind, event.event_id)
        for event in report.acknowledged
        if event.is_match
    }
    assert sum(one["totalRuns"] for one in db["automations"].find()) == len(
        {(one["automationId"], one["userId"]) for one in triggers}
    )


def test_the_command_posts_to_a_server_and_says_what_came_back(
    db: Database[dict[str, Any]], settings: Any
) -> None:
    insert_automations(db)
    environment = build_environment(MONGODB_URI=find_uri(settings))
    port = find_free_port()
    with running(
        "serve", "--port", str(port), "--processes", "1", environment=environment
    ) as server:
        server.wait_for_line("Stop with Ctrl-C")
        arguments = ("simulate", "comment", "--text", "LINK", "--events", "40", "--json")
        url = ("--url", f"http://127.0.0.1:{port}")
        with running(*arguments, *url, environment=environment) as simulate:
            assert simulate.wait() == 0
        figures = json.loads(simulate.lines[-1])
        assert figures["events"]["acknowledged"] == 40
        assert figures["kinds"] == {"comment": {"sent": 40, "acknowledged": 40}}
        wait_until(lambda: db["automation_triggers"].count_documents({}) == 40, seconds=2)
        assert any("✅ [TRACKING] Automation run tracked: " in line for line in server.lines)

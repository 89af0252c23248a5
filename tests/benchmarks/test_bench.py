"""The parts of the bench that figures depend on; `make bench` itself is not run by the tests."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks import figures, targets
from tests.benchmarks.candidates import Running, null_server
from tests.benchmarks.client import Lane, run_lanes
from tests.benchmarks.figures import Counts, Result, Table
from tests.benchmarks.workload import APP_SECRET, Workload, build_automations, count_people


@pytest.fixture
def null_port(tmp_path: Path) -> Iterator[int]:
    log_path = tmp_path / "null.log"
    with Running(null_server(), database=None, uri="", log_path=log_path) as process:
        yield process.port


def test_every_request_is_answered_once_over_few_connections(null_port: int) -> None:
    deliveries = Workload(build_automations(20, workspaces=1), events=1000).build(9)
    lane = Lane(null_port, [one.request for one in deliveries], connections=4)
    run_lanes([lane], seconds=20)
    assert sorted(lane.list_acknowledged()) == list(range(9))
    assert not lane.list_refused()
    assert lane.seconds < 20


def test_a_paced_lane_keeps_its_times_beside_a_closed_one(null_port: int) -> None:
    [delivery] = Workload(build_automations(20, workspaces=1), events=1).build(1)
    due = [0.0, 0.1, 0.2]
    paced = Lane(null_port, [delivery.request] * 3, connections=2, due=due)
    closed = Lane(null_port, [delivery.request], connections=1, is_endless=True)
    run_lanes([paced, closed], seconds=0.4)
    assert len(paced.answers) == 3
    assert paced.seconds >= 0.2
    assert len(closed.answers) > 3


def test_deliveries_are_signed_and_each_event_names_one_automation() -> None:
    automations = build_automations(20, workspaces=1)
    [delivery] = Workload(automations, events=250).build(1)
    head, _, body = delivery.request.partition(b"\r\n\r\n")
    wanted = hmac.new(APP_SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert wanted.encode() in head
    entries = json.loads(body)["entry"]
    assert [len(entry["changes"]) for entry in entries] == [100, 100, 50]
    for entry in entries:
        rules = [one for one in automations if one["accountId"] == entry["id"]]
        for change in entry["changes"]:
            words = [rule["trigger"]["keywords"][0] for rule in rules]
            assert sum(word in change["value"]["text"] for word in words) == 1


def test_doubled_deliveries_have_the_same_people_as_their_neighbours() -> None:
    deliveries = Workload(build_automations(20, workspaces=1), events=100).build_doubled(4)
    first, second, third, _ = deliveries
    assert sorted(first.people) == sorted(second.people)
    assert set(first.people).isdisjoint(third.people)
    assert count_people(deliveries, range(4)) == 200


def test_a_miscount_is_named() -> None:
    assert Counts(5, 5, 5).is_exact
    assert Counts(5, None, 5).is_exact
    assert Counts(6, 4, 5).describe() == "**wrong**: runs +1, totals -1 of 5"


def test_a_target_is_judged_by_the_medians() -> None:
    results = [
        Result("ours, 2 processes", values=[9_000.0, 11_000.0, 10_000.0]),
        Result("Node, naive", values=[500.0]),
    ]
    table = Table("sustained", "100 events", "", "events/s", results, columns=("naive",))
    assert "| 20.00 |" in figures.build_markdown(table)
    text = targets.build_markdown({"sustained": table})
    row = "100 events, sustained"
    assert f"| {row} | counted, against naive | 20.00 x | 10.00 x | met | 15.00 x | met |" in text
    assert f"| {row} | counted/s | 10,000 | 8,000 | met | 12,000 | short |" in text


def test_the_worst_trouble_is_judged() -> None:
    names = ("ours, 2 processes, as usual", "ours, 2 processes, off", "ours at 1, 2 processes, off")
    results = [
        Result(name, values=[value]) for name, value in zip(names, (100.0, 95.0, 1.0), strict=True)
    ]
    table = Table("trouble", "", "", "events/s", results)
    assert "| answers, of the usual | 0.95 x | 0.90 x | met |" in targets.build_markdown(
        {"trouble": table}
    )

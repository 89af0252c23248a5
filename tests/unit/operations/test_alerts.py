import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.registry import REGISTRY

from automations import metrics
from automations.instagram.graph_errors import ErrorClass
from automations.operations.health import Health
from automations.operations.health_store import Waiting
from automations.operations.prometheus import list_health_metrics
from automations.outbox.jobs import StepState
from tracking.counting import metrics as tracking_metrics
from tracking.mongo.errors import Failure
from tracking.runs import Outcome

ROOT = Path(__file__).resolve().parents[3]
OWN = ("graph_", "mongodb_", "outbox_", "tracking_", "webhook_")
# PromQL's own words in our expressions.
WORDS = {"abs", "by", "histogram_quantile", "increase", "le", "rate", "sum"}
LABELS = {
    "class": {one.name.lower() for one in ErrorClass},
    "kind": {one.name.lower() for one in Failure},
    "outcome": set(Outcome),
    "state": set(StepState),
}


def list_metrics() -> set[str]:
    """Every metric that a scrape may have, with what histograms and counters append."""
    assert metrics.ANSWERS
    assert tracking_metrics.TRIGGERS
    found = set()
    for family in REGISTRY.collect():
        if family.type == "histogram":
            found |= {f"{family.name}_{part}" for part in ("bucket", "sum", "count")}
        found.add(f"{family.name}_total" if family.type == "counter" else family.name)
    waiting = Waiting(dead_letters=0, uncounted=0, stuck=0, queued=0)
    health = Health(
        clock_offset=0.0, missing_indexes=[], waiting=waiting,
        queue_lag=timedelta(0), counting_lag=timedelta(0),
    )  # fmt: skip
    found |= {family.name for family in list_health_metrics(health)}
    return {name for name in found if name.startswith(OWN)}


def list_rules() -> Iterator[dict[str, Any]]:
    document = yaml.safe_load((ROOT / "deploy/alerts.yml").read_text(encoding="utf-8"))
    for group in document["groups"]:
        yield from group["rules"]


RULES = {rule["alert"]: rule for rule in list_rules()}


def test_the_names_are_distinct() -> None:
    assert len(RULES) == len(list(list_rules()))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
class TestRule:
    def test_it_says_what_and_what_to_do(self, rule: dict[str, Any]) -> None:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert set(rule["annotations"]) == {"summary", "action"}
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "1m"))

    def test_every_metric_exists(self, rule: dict[str, Any]) -> None:
        bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b[\d.]+\b", " ", rule["expr"])
        named = set(re.findall(r"[a-z_]+", bare)) - WORDS - {"kind"}
        assert named
        assert named <= list_metrics()

    def test_every_label_has_values_that_exist(self, rule: dict[str, Any]) -> None:
        for name, values in re.findall(r'(\w+)(?:=|!=|=~)"([^"]+)"', rule["expr"]):
            if name != "status":
                assert set(values.split("|")) <= LABELS[name]

    def test_what_opens_is_closed(self, rule: dict[str, Any]) -> None:
        for first, last in ("()", "{}", "[]"):
            assert rule["expr"].count(first) == rule["expr"].count(last)

    def test_the_section_exists(self, rule: dict[str, Any]) -> None:
        headings = re.findall(r"^## (?:\d+\. )?(.*)$", read("DEPLOYMENT.md"), re.MULTILINE)
        for section in re.findall(r'DEPLOYMENT\.md, "([^"]+)"', rule["annotations"]["action"]):
            assert section in headings

    def test_the_commands_exist(self, rule: dict[str, Any]) -> None:
        for command in re.findall(r"manage\.py (\w+)", str(rule["annotations"])):
            path = f"management/commands/{command}.py"
            assert any((ROOT / app / path).exists() for app in ("automations", "tracking"))


def test_every_metric_is_in_the_table_for_operators() -> None:
    table = set(re.findall(r"^\| `(\w+)`", read("DEPLOYMENT.md"), re.MULTILINE))
    base = {re.sub(r"_(bucket|sum|count)$", "", name) for name in list_metrics()}
    assert base <= table


@pytest.mark.parametrize(
    "name",
    ["instagram-automations", "instagram-automations-worker@", "instagram-automations-counter@"],
)
def test_a_unit_starts_a_command_that_exists_and_outlasts_its_stop(name: str) -> None:
    text = read(f"deploy/{name}.service")
    [command] = re.findall(r"^ExecStart=\S+ manage\.py (\w+)", text, re.MULTILINE)
    assert (ROOT / f"automations/management/commands/{command}.py").exists()
    assert int(re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)[0]) > 28


def test_mongodb_and_prometheus_files_can_be_read() -> None:
    for name in ("deploy/mongodb/mongod.conf", "deploy/prometheus.yml"):
        assert yaml.safe_load(read(name))


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import yaml
from prometheus_client.registry import REGISTRY

from automations import metrics
from automations.instagram.graph_errors import ErrorClass
from automations.operations.health import Health
from automations.operations.prometheus import VARIABLE, list_health_metrics
from automations.outbox.jobs import StepState
from tracking.counting import metrics as tracking_metrics
from tracking.mongo.errors import Failure
from tracking.runs import Outcome

ROOT = Path(__file__).resolve().parents[3]
OWN = ("graph_", "http_", "mongodb_", "outbox_", "tracking_", "webhook_")
LABELS = {
    "class": {one.name.lower() for one in ErrorClass},
    "kind": {one.name.lower() for one in Failure},
    "outcome": set(Outcome),
    "state": set(StepState),
    "job": {"instagram-automations"},
    "route": {"readyz"},
}


HEALTHY = Health(
    clock_offset=0.0, missing_indexes=[], queue_lag=timedelta(0), counting_lag=timedelta(0),
    dead_letters=0, uncounted=0, stuck=0, queued=0,
)  # fmt: skip
needs_promtool = pytest.mark.skipif(which("promtool") is None, reason="Debian's prometheus has it")


def list_metrics() -> set[str]:
    """Every metric that a scrape may have, with what histograms and counters append."""
    assert metrics.ANSWERS
    assert tracking_metrics.TRIGGERS
    found = set()
    for family in REGISTRY.collect():
        if family.type == "histogram":
            found |= {f"{family.name}_{part}" for part in ("bucket", "sum", "count")}
        found.add(f"{family.name}_total" if family.type == "counter" else family.name)
    found |= {family.name for family in list_health_metrics(HEALTHY)}
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

    def test_every_label_has_values_that_exist(self, rule: dict[str, Any]) -> None:
        for name, values in re.findall(r'(\w+)(?:=|!=|=~)"([^"]+)"', rule["expr"]):
            if name != "status":
                assert set(values.split("|")) <= LABELS[name]

    def test_the_section_and_the_commands_exist(self, rule: dict[str, Any]) -> None:
        headings = re.findall(r"^## (?:\d+\. )?(.*)$", read("DEPLOYMENT.md"), re.MULTILINE)
        sections = re.findall(r'DEPLOYMENT\.md, "([^"]+)"', rule["annotations"]["action"])
        assert set(sections) <= set(headings)
        for command in re.findall(r"manage\.py (\w+)", str(rule["annotations"])):
            path = f"management/commands/{command}.py"
            assert any((ROOT / app / path).exists() for app in ("automations", "tracking"))


@pytest.fixture(scope="module")
def at_start() -> dict[str, float]:
    """Every series of a process that has just started, but for what a look at MongoDB found."""
    code = (
        "from project.wsgi import application; "
        "from automations.operations.prometheus import render_metrics; "
        "print(render_metrics().decode())"
    )
    environment = {name: text for name, text in os.environ.items() if name != VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [line.rpartition(" ") for line in done.stdout.splitlines() if line.startswith(OWN)]
    found = {"up": 1.0, **{build_series(name): float(value) for name, _, value in lines}}
    for family in list_health_metrics(HEALTHY):
        found[family.name] = float(family.samples[0].value)
    return found


def build_series(text: str) -> str:
    """A series by its name and labels in one order, without those that a scrape adds."""
    name, _, labels = text.partition("{")
    found = sorted(re.findall(r'(\w+)="([^"]*)"', labels))
    kept = [f'{label}="{value}"' for label, value in found if label not in ("job", "instance")]
    return f"{name}{{{','.join(kept)}}}" if kept else name


@needs_promtool
def test_each_alert_fires_by_a_series_that_is_0_from_the_start(at_start: dict[str, float]) -> None:
    run_promtool(ROOT / "deploy/alerts_test.yml")
    firing = set()
    for case in yaml.safe_load(read("deploy/alerts_test.yml"))["tests"]:
        [expected] = case["promql_expr_test"][0]["exp_samples"]
        firing |= set(re.findall(r'alertname="(\w+)"', expected["labels"]))
        for one in case["input_series"]:
            series = build_series(one["series"])
            assert series in at_start, series
            assert not series.endswith(("_total", "}")) or (at_start[series], one["values"][0]) == (
                0, "0",
            )  # fmt: skip
    assert firing == RULES.keys()


@needs_promtool
def test_no_alert_fires_while_nothing_is_wrong(at_start: dict[str, float], tmp_path: Path) -> None:
    series = [{"series": name, "values": f"{value}x12"} for name, value in at_start.items()]
    series[0]["series"] = 'up{job="instagram-automations",instance="a"}'
    firing = {"expr": 'ALERTS{alertstate="firing"}', "exp_samples": []}
    checks = [{**firing, "eval_time": f"{minutes}m"} for minutes in (1, 5, 10)]
    case = {"interval": "1m", "input_series": series, "promql_expr_test": checks}
    document = {"rule_files": [str(ROOT / "deploy/alerts.yml")], "tests": [case]}
    path = tmp_path / "healthy.yml"
    path.write_text(yaml.safe_dump({**document, "evaluation_interval": "1m"}))
    run_promtool(path)


def run_promtool(path: Path) -> None:
    command = ["promtool", "test", "rules", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


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

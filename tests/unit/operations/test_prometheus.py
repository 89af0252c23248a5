import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.test import Client, RequestFactory, override_settings
from prometheus_client.registry import REGISTRY

from automations.operations import prometheus
from automations.operations.prometheus import VARIABLE, metrics_directory
from project.operations import may_read_metrics

TOKEN = "a-token-of-sixteen-or-more"


def build_request(**meta: str) -> Any:
    return RequestFactory().get("/metrics", **{"REMOTE_ADDR": "127.0.0.1", **meta})  # type: ignore[arg-type]


class TestWhoMayRead:
    @pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1"])
    def test_this_machine_may(self, address: str) -> None:
        assert may_read_metrics(build_request(REMOTE_ADDR=address))

    @pytest.mark.parametrize("address", ["10.0.0.1", "203.0.113.9", "", "unix"])
    def test_others_may_not(self, address: str) -> None:
        assert not may_read_metrics(build_request(REMOTE_ADDR=address))

    @pytest.mark.parametrize(
        "header",
        ["HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_FORWARDED", "HTTP_VIA"],
    )
    def test_what_a_proxy_passes_on_may_not(self, header: str) -> None:
        assert not may_read_metrics(build_request(**{header: "127.0.0.1"}))

    def test_with_a_token_it_alone_decides(self, settings: Any) -> None:
        settings.METRICS_TOKEN = TOKEN
        bearer = f"Bearer {TOKEN}"
        remote = {"REMOTE_ADDR": "203.0.113.9", "HTTP_X_FORWARDED_PROTO": "https"}
        assert may_read_metrics(build_request(HTTP_AUTHORIZATION=bearer, **remote))
        for wrong in ("", TOKEN, bearer + "x", "Bearer \udcff"):
            assert not may_read_metrics(build_request(HTTP_AUTHORIZATION=wrong))

    def test_a_refusal_says_nothing(self, client: Client) -> None:
        response = client.get("/metrics", REMOTE_ADDR="203.0.113.9")
        assert (response.status_code, response.content) == (403, b"Forbidden\n")


class TestDirectory:
    def test_a_named_one_keeps_what_is_of_the_living(self, tmp_path: Path, settings: Any) -> None:
        settings.PROMETHEUS_MULTIPROC_DIR = str(tmp_path / "metrics")
        with metrics_directory() as path:
            ended = subprocess.Popen(["true"])
            ended.wait()
            kept = path / f"counter_{os.getpid()}.db"
            kept.write_bytes(b"")
            (path / f"gauge_livesum_{ended.pid}.db").write_bytes(b"")
        with metrics_directory() as path:
            assert list(path.iterdir()) == [kept]

    def test_a_scrape_forgets_what_the_dead_had(self, tmp_path: Path, settings: Any) -> None:
        settings.PROMETHEUS_MULTIPROC_DIR = str(tmp_path)
        ended = subprocess.Popen(["true"])
        ended.wait()
        alive = tmp_path / f"gauge_livesum_{os.getpid()}.db"
        counted = tmp_path / f"counter_{ended.pid}.db"
        for path in (alive, counted, tmp_path / f"gauge_livesum_{ended.pid}.db"):
            path.write_bytes(bytes(1 << 16))
        assert b"mongodb_up" in prometheus.render_metrics()
        assert sorted(tmp_path.iterdir()) == sorted([alive, counted])


@pytest.mark.parametrize("named", [None, "", "  "])
def test_an_environment_without_a_name_leaves_no_files(tmp_path: Path, named: str | None) -> None:
    """.env.example names every variable, empty where it has no default."""
    environment = {name: text for name, text in os.environ.items() if name != VARIABLE}
    if named is not None:
        environment[VARIABLE] = named
    root = Path(__file__).resolve().parents[3]
    code = (
        "import django; django.setup(); from automations import metrics; "
        "metrics.ANSWER_SECONDS.observe(0.1); "
        "from automations.operations.prometheus import REGISTRY; "
        "print(REGISTRY.get_sample_value('webhook_seconds_count'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env={**environment, "PYTHONPATH": str(root)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "1.0\n"
    assert list(tmp_path.iterdir()) == []


def read_series(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_requests_are_counted_by_route_and_deliveries_by_status_alone(client: Client) -> None:
    client.get("/healthz")  # builds the chain of middleware
    labels = {"route": "readyz", "method": "GET", "status": "5xx"}
    unknown = {"route": "none", "method": "other", "status": "4xx"}
    before = [read_series("http_requests_total", **one) for one in (labels, unknown)]
    refused = read_series("webhook_answers_total", status="400")
    assert client.get("/readyz").status_code == 503
    assert client.generic("BREW", "/nowhere/17841400000000001").status_code == 404
    with override_settings(ALLOWED_HOSTS=["example.com"]):
        assert client.post("/api/webhooks/instagram", HTTP_HOST="other").status_code == 400
    after = [read_series("http_requests_total", **one) for one in (labels, unknown)]
    assert after == [one + 1 for one in before]
    assert read_series("webhook_answers_total", status="400") == refused + 1
    assert read_series("http_request_seconds_count", **labels) >= 1

"""Who sees the pages: the workspace's own sessions; and what every page's header allows."""

from unittest.mock import Mock

import pytest
from django.test import Client

from automations.dashboard import overview
from tests.support.api_client import Db, build_automation, log_in
from tests.support.routes import OWNED, fill_in
from tracking.mongo import errors as mongo_errors

PAGES = [fill_in(route, "ws2") for route in OWNED if route.startswith("workspaces/")]


@pytest.mark.parametrize("path", PAGES)
class TestGuard:
    def test_a_part_of_a_page_leads_the_whole_page_there(self, db: Db, path: str) -> None:
        response = Client(headers={"HX-Request": "true"}).get(path)
        assert (response.status_code, response["HX-Redirect"]) == (200, "/login")

    def test_without_mongodb_it_is_503(self, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
        monkeypatch.setattr(mongo_errors, "DEADLINE_SECONDS", 0.1)
        client = Client()
        client.cookies["sessionid"] = "a" * 32
        response = client.get(path)
        assert (response.status_code, response["Retry-After"]) == (503, "1")
        assert "did not answer" in response.text


def test_the_root_leads_to_the_own_workspace(db: Db) -> None:
    assert Client().get("/")["Location"] == "/login"
    assert log_in("ws1").get("/")["Location"] == "/workspaces/ws1/"


def test_a_path_that_is_none_has_a_page(db: Db) -> None:
    response = Client().get("/nowhere")
    assert response.status_code == 404
    assert "Page not found" in response.text


def test_a_form_of_another_site_switches_nothing(db: Db) -> None:
    db["automations"].insert_one(build_automation(_id="a1"))
    client = log_in()
    client.handler.enforce_csrf_checks = True
    response = client.post("/workspaces/ws1/automations/a1/switch", {"to": "off"})
    assert response.status_code == 403
    assert db["automations"].count_documents({"isActive": True}) == 1


@pytest.mark.parametrize("path", ["/login", "/nowhere", "/workspaces/ws1/"])
def test_pages_load_nothing_but_files_of_this_site(db: Db, path: str) -> None:
    response = log_in().get(path)
    policy = dict(part.split(" ", 1) for part in response["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'self'", "base-uri": "'none'", "form-action": "'self'",
        "frame-ancestors": "'none'", "object-src": "'none'",
    }  # fmt: skip


def test_the_browsable_api_may_have_style_attributes_and_no_more(db: Db) -> None:
    client = log_in(headers={"accept": "text/html"})
    policy = client.get("/api/workspaces/ws1/automations")["Content-Security-Policy"]
    assert "style-src-attr 'unsafe-inline'" in policy
    assert policy.count("unsafe") == 1


def test_a_broken_page_is_a_500_and_says_nothing_of_it(
    db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail = Mock(side_effect=ValueError("a secret"))
    monkeypatch.setattr(overview.store, "list_automations", fail)
    client = log_in(raise_request_exception=False)
    response = client.get("/workspaces/ws1/")
    assert response.status_code == 500
    assert b"a secret" not in response.content

"""The API keeps to its schema: whatever is asked, no 5xx and no answer that is not documented."""

from datetime import timedelta
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.checks import CHECKS, load_all_checks

from project.wsgi import application
from tests.support.api_client import NOON, Db, build_automation, build_path, make_client
from tests.support.triggers import count_triggers, make_people, now_in_milliseconds
from tracking import service

load_all_checks()
# What is left out judges whether data should have been refused: lengths in bytes, zones and ranges
# are more than a schema says.
WANTED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
CHECKED = CHECKS.get_by_names(WANTED)


@pytest.fixture
def workspace(db: Db) -> str:
    """A workspace with a little of everything; return a token of it."""
    db["automations"].insert_many([
        build_automation(_id="a1", accountId="17841400000000001"),
        build_automation(_id="a2"),
        {"_id": "strange", "workspaceId": "ws1", "name": 7, "type": None, "createdAt": "once"},
    ])  # fmt: skip
    at = now_in_milliseconds() - timedelta(hours=1)
    count_triggers(*make_people(4, workspace_id="ws1", arrived_at=at))
    # A counter that goes on draws random pauses, and hypothesis takes them for its own.
    service.close()
    db["automation_runs"].insert_one(
        {"_id": "r1", "automationId": "a2", "workspaceId": "ws1", "createdAt": NOON, "steps": None}
    )
    authorization: str = make_client().defaults["HTTP_AUTHORIZATION"]
    return authorization


schema = schemathesis.openapi.from_wsgi(
    "/api/schema", application, headers={"Accept": "application/json"}
)
# The edges of each field in turn, for twice the time: `schemathesis run` does those too.
schema.config.phases.update(phases=["examples", "fuzzing"])
# What paths name: mostly what is there.
KNOWN = {
    "wsid": ("ws1", "ws1", "ws1", "ws2"),
    "automation_id": ("a1", "a2", "strange", "gone"),
    "run_id": ("r1", "gone"),
}


@schema.parametrize()
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_no_answer_is_undocumented(case: Case, workspace: str) -> None:
    seed = len(repr(case.query)) + len(repr(case.body))
    for name, values in KNOWN.items():
        if name in case.path_parameters:
            case.path_parameters[name] = values[seed % len(values)]
    case.call_and_validate(
        headers={"Authorization": workspace, "Accept-Encoding": "identity"}, checks=CHECKED
    )


JSON = {"content_type": "application/json"}
REFUSALS: list[tuple[str, dict[str, Any], int, str]] = [
    ("get", {"headers": {"accept": "application/xml"}}, 406, "not_acceptable"),
    ("put", {"data": "{}", **JSON}, 405, "method_not_allowed"),
    ("post", {"data": "x", "content_type": "text/plain"}, 415, "unsupported_media_type"),
    *(
        ("post", {"data": body, **JSON}, 400, code)
        for body, code in (
            (b"", "required"), (b"{}", "required"), (b"null", "null"), (b"[]", "invalid"),
            (b'{"name": 1}', "invalid"), (b"{", "parse_error"), (b'{"a": NaN}', "parse_error"),
            (b'"\\ud800"', "parse_error"), (b"\xff", "parse_error"),
            (b"[" * 100_000, "parse_error"), (b'{"name":' * 2000, "parse_error"),
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("method", "options", "status", "code"), REFUSALS)
def test_every_refusal_has_the_one_shape(
    db: Db, method: str, options: dict[str, Any], status: int, code: str
) -> None:
    client = make_client()
    response = getattr(client, method)(build_path(), **options)
    assert response.status_code == status
    body = response.json()
    assert body.keys() == {"success", "error"}
    assert body["error"].keys() == {"code", "message", "field"}
    assert (body["success"], body["error"]["code"]) == (False, code)
    assert db["automations"].count_documents({}) == 0

"""What a script reads of commands with `--json`: one document on standard output, nothing else."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command

from automations.accounts.accounts import add_account
from automations.auth.tokens import create_token
from tests.support.api_client import Db, build_automation, build_run
from tests.support.commands import run_command
from tracking.mongo.indexes import list_indexes


def run(*arguments: str) -> Any:
    return json.loads("".join(run_command(*arguments, "--json")))


def test_tokens(db: Db) -> None:
    assert run("list_api_tokens") == []
    secret, token = create_token(workspace_id="ws1", name="CI", at=datetime.now(UTC))
    [shown] = run("list_api_tokens")
    assert (shown["id"], shown["workspaceId"], shown["name"]) == (token.id, "ws1", "CI")
    assert (shown["state"], shown["expiresAt"]) == ("usable", None)
    assert secret not in json.dumps(shown)


def test_accounts(db: Db, settings: Any) -> None:
    settings.FIELD_ENCRYPTION_KEYS = (Fernet.generate_key().decode(),)
    assert run("list_accounts") == []
    at = datetime.now(UTC)
    add_account("17841400000000001", workspace_id="ws1", token="hidden-token", at=at)
    [shown] = run("list_accounts")
    assert (shown["id"], shown["workspaceId"]) == ("17841400000000001", "ws1")
    assert (shown["hasToken"], shown["lastWebhookAt"]) == (True, None)
    assert "hidden" not in json.dumps(shown)


def test_the_switch(db: Db) -> None:
    status = run("tracking", "status")
    assert status == {
        "tracking": {"state": "on", "since": None, "isAllowed": True},
        "stats": {"state": "on", "since": None, "isAllowed": True},
        "waiting": {"triggers": 0, "stuck": 0, "oldestAt": None, "byAge": {}},
        "lagSeconds": 0.0,
        "counters": [],
        "unowned": list(range(16)),
        "stuck": [],
        "retried": None,
    }
    assert run("tracking", "off")["tracking"]["state"] == "off"
    assert run("tracking", "retry")["retried"] == 0


def test_add_run_fields(bare_db: Db) -> None:
    bare_db["automations"].insert_one(build_automation(_id="a1"))
    bare_db["automation_runs"].insert_one(build_run("a1", age=timedelta(hours=2)))
    names = ("isDryRun", "automations", "basesCreated", "hoursRebuilt")
    for arguments, figures in ((["--dry-run"], (True, 1, 1, 0)), ([], (False, 1, 1, 1))):
        found = run("add_run_fields", *arguments)
        assert tuple(found[name] for name in names) == figures


def test_add_run_indexes(bare_db: Db) -> None:
    names = {one.name for one in list_indexes(timedelta(days=90))}
    for arguments, state in ((["--dry-run"], "missing"), ([], "missing"), ([], "present")):
        result = run("add_run_indexes", *arguments)
        assert result["isDryRun"] is bool(arguments)
        assert {(one["name"], one["state"]) for one in result["indexes"]} == {
            (name, state) for name in names
        }
        assert result["problems"] == []


def test_a_problem_is_in_it_and_is_the_exit_too(bare_db: Db) -> None:
    bare_db["automation_runs"].create_index([("userId", 1)], name="automationId_createdAt")
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("add_run_indexes", "--json", stdout=out, stderr=StringIO())
    [problem] = json.loads(out.getvalue())["problems"]
    assert "dropIndex('automationId_createdAt')" in problem

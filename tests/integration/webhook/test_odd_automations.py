"""What an older product left in `automations` and `accounts` costs itself only, and is named."""

import json
from typing import Any

import bson
import pytest
from bson import Int64, ObjectId
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from prometheus_client import REGISTRY
from pymongo.database import Database

from automations.accounts.accounts import AccountState, get_account
from automations.outbox.account_status import summarize_accounts
from automations.rules.cache import load_rules
from tests.support.verification_cases import verify
from tests.support.webhook_cases import (
    ACCOUNTS,
    CREATED_AT,
    build_automation,
    build_body,
    build_comment,
    post_body,
)

Document = dict[str, Any]
LINE = "active automations that match nothing"
YEAR_20000 = DatetimeMS(568971820800000)
NOT_UTF8 = "name of 16 bytes"
# What matches all the same, though not everything of it can be read.
READABLE: list[Document] = [
    {"createdAt": YEAR_20000, "lastRunAt": DatetimeMS(-(2**62))},
    {"name": NOT_UTF8, "mainDm": {"text": NOT_UTF8, "sentAt": [YEAR_20000]}},
    {"accountId": Int64(ACCOUNTS[1])},
    {"accountId": float(ACCOUNTS[1]), "workspaceId": 42.0},
    {"workspaceId": ObjectId("65f0c0ffee65f0c0ffee65f0")},
]
# What matches nothing, with the reason that is given.
UNREADABLE: list[tuple[Document, str]] = [
    ({"accountId": [ACCOUNTS[0], ACCOUNTS[1], {}]}, "its accountId"),
    ({"accountId": YEAR_20000}, "its accountId"),
    ({"workspaceId": ["ws1"]}, "its workspaceId"),
    ({"trigger": {"match": "any", "postIds": [1.5]}}, "its postIds"),
    ({"trigger": {"keywords": ["\u200b"]}}, "it has no keywords"),
    ({"deletedAt": CREATED_AT}, "it was deleted"),
]


def insert(db: Database[Document], key: Any, **changes: Any) -> None:
    """Store an automation of the second account as its bytes are."""
    document = build_automation(key, **{"accountId": ACCOUNTS[1], **changes})
    raw = bson.encode(document).replace(NOT_UTF8.encode(), b"\xff" * len(NOT_UTF8))
    db["automations"].insert_one(RawBSONDocument(raw))


def post_to_both_accounts() -> int:
    """Post one delivery of a comment for each account."""
    body, other = (json.loads(build_body(build_comment(1), account_id=one)) for one in ACCOUNTS)
    body["entry"] += other["entry"]
    return post_body(json.dumps(body).encode()).status_code


def list_triggers(db: Database[Document]) -> list[Any]:
    return sorted(one["automationId"] for one in db["automation_triggers"].find())


@pytest.mark.parametrize("odd", READABLE, ids=str)
def test_what_is_odd_but_clear_matches(db: Database[Document], odd: Document) -> None:
    db["automations"].insert_one(build_automation("good"))
    insert(db, "odd", **odd)
    assert post_to_both_accounts() == 200
    assert list_triggers(db) == ["good", "odd"]
    assert verify("--only", "automations")[1][LINE]["figure"] == "0"
    if "workspaceId" in odd:
        workspace_id = str(odd["workspaceId"]).removesuffix(".0")
        assert db["automation_triggers"].count_documents({"workspaceId": workspace_id}) == 1


@pytest.mark.parametrize(("odd", "reason"), UNREADABLE, ids=str)
def test_what_cannot_match_costs_itself_only_and_is_named(
    db: Database[Document], odd: Document, reason: str
) -> None:
    db["automations"].insert_many(
        [build_automation("good"), build_automation("other", accountId=ACCOUNTS[1])]
    )
    insert(db, "a-odd", **odd)
    assert REGISTRY.get_sample_value("automations_matching_nothing") is not None
    assert post_to_both_accounts() == 200
    assert list_triggers(db) == ["good", "other"]
    code, findings = verify("--only", "automations")
    assert code == 1
    assert findings[LINE]["figure"].startswith(f"1: a-odd ({reason}")


def test_nothing_is_read_that_no_rule_is_made_of(db: Database[Document]) -> None:
    insert(db, "large", history=["x" * 1000] * 2000, mainDm={"text": "y" * 100})
    loaded = load_rules([ACCOUNTS[1]], {}, seconds=3.0)[ACCOUNTS[1]]
    assert 100 < loaded.size < 1000
    assert load_rules([ACCOUNTS[1]], {ACCOUNTS[1]: loaded}, seconds=3.0)[ACCOUNTS[1]] is loaded


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ({"workspaceId": None}, "it names no workspace"),
        ({"state": {"is": "active"}}, "its state is unknown"),
        ({"host": ["facebook"]}, "its host is unknown"),
        ({"_id": int(ACCOUNTS[1])}, "its _id is no text"),
        ({"stateAt": YEAR_20000, "lastWebhookAt": "today", "createdAt": 5, "token": 5}, None),
    ],
)
def test_an_account_that_cannot_be_read_is_paused_and_named(
    db: Database[Document], odd: Document, reason: str | None
) -> None:
    db["accounts"].insert_many([
        {"_id": ACCOUNTS[1], "workspaceId": "ws1", "token": "x"} | odd,
        {"_id": ACCOUNTS[0], "workspaceId": "ws1"},
    ])  # fmt: skip
    db["automations"].insert_many(
        [build_automation("good"), build_automation("other", accountId=ACCOUNTS[1])]
    )
    assert post_to_both_accounts() == 200
    assert list_triggers(db) == ["good", "other"]
    account = get_account(ACCOUNTS[1])
    assert account is None or account.state is not AccountState.ACTIVE
    assert {one.account_id for one in summarize_accounts("ws1")} == set(ACCOUNTS)
    figure = verify("--only", "silence")[1]["accounts that cannot be read"]["figure"]
    assert figure == (f"1: {ACCOUNTS[1]} ({reason})" if reason else "0")

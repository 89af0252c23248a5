from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from bson import BSON, Int64, ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

from automations.rules.automation import Automation, parse_automation

CREATED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NAIVE = CREATED_AT.replace(tzinfo=None)
DOCUMENT: dict[str, Any] = {
    "_id": "a1",
    "workspaceId": "w1",
    "accountId": "17841400000000001",
    "name": "Price",
    "type": "comment_to_dm",
    "isActive": True,
    "trigger": {"keywords": ["Price"], "match": "word", "postIds": ["18050000000000001"]},
    "commentReply": {"texts": ["Sent!"]},
    "openingDm": {"text": "Hi!", "button": "Send"},
    "mainDm": {"text": "Here"},
    "totalRuns": 5,
    "lastRunAt": None,
    "createdAt": CREATED_AT,
}


def parse(**changes: Any) -> Automation | None:
    return parse_automation({**DOCUMENT, **changes})


def parse_trigger(**changes: Any) -> Automation | None:
    return parse(trigger={**DOCUMENT["trigger"], **changes})


def test_a_document_is_read_whole() -> None:
    automation = parse()
    assert automation is not None
    assert automation.key == automation.id == "a1"
    assert automation.workspace_id == "w1"
    assert automation.account_id == "17841400000000001"
    assert automation.type == "comment_to_dm"
    assert automation.match == "word"
    assert automation.keywords == ("price",)
    assert automation.post_ids == {"18050000000000001"}
    assert automation.created_at == CREATED_AT
    assert [step.name for step in automation.steps] == ["comment_reply", "opening_dm", "main_dm"]
    assert automation.trigger_type == "comment_reply"


def test_what_has_to_be_sent_is_ready_for_bson() -> None:
    automation = parse()
    assert automation is not None
    assert automation.send is not None
    assert BSON.encode(automation.send).decode() == {
        "steps": [
            {"name": "comment_reply", "texts": ["Sent!"]},
            {"name": "opening_dm", "text": "Hi!", "button": "Send"},
            {"name": "main_dm", "text": "Here", "links": []},
        ]
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"commentReply": None}, "opening_dm"),
        ({"commentReply": {"texts": []}, "openingDm": {}}, "main_dm"),
        ({"type": "story_reply"}, "opening_dm"),
        ({"type": "dm_auto_responder", "openingDm": None}, "main_dm"),
        ({"commentReply": None, "openingDm": None, "mainDm": None}, "opening_dm"),
    ],
)
def test_the_first_step_names_the_trigger(changes: dict[str, Any], expected: str) -> None:
    automation = parse(**changes)
    assert automation is not None
    assert automation.trigger_type == expected


def test_an_automation_with_nothing_to_send_still_matches() -> None:
    automation = parse(commentReply=None, openingDm=None, mainDm=None)
    assert automation is not None
    assert (automation.steps, automation.send) == ((), None)


def test_an_object_id_keeps_its_type_as_the_key() -> None:
    key = ObjectId()
    automation = parse(_id=key)
    assert automation is not None
    assert automation.key is key
    assert automation.id == str(key)


@pytest.mark.parametrize(
    "changes",
    [
        {"_id": None},
        {"isActive": False},
        {"isActive": None},
        {"isActive": "true"},
        {"type": "welcome_flow"},
        {"type": None},
        {"type": ["comment_to_dm"]},
        {"accountId": None},
        {"accountId": ""},
        {"accountId": 1.5},
        {"accountId": True},
        {"accountId": ["17841400000000001"]},
        {"trigger": None},
        {"trigger": []},
        {"trigger": "price"},
        {"trigger": {}},
        {"trigger": {"keywords": []}},
        {"trigger": {"keywords": None}},
        {"trigger": {"keywords": [None, "", "  ", {}]}},
        {"trigger": {"keywords": ["price"], "match": "regex"}},
        {"trigger": {"keywords": ["price"], "match": ["word"]}},
        {"trigger": {"keywords": ["price"], "match": {}}},
        {"trigger": {"keywords": ["price"], "match": ""}},
        {"trigger": {"match": "any", "postIds": [None]}},
        {"trigger": {"match": "any", "postIds": [""]}},
        {"trigger": {"match": "any", "postIds": {"id": "1"}}},
        {"trigger": {"match": "any", "postIds": [1.5]}},
    ],
)
def test_what_can_never_match_is_no_rule(changes: dict[str, Any]) -> None:
    assert parse(**changes) is None


@pytest.mark.parametrize("missing", ["_id", "type", "accountId", "isActive", "trigger"])
def test_a_document_needs_these(missing: str) -> None:
    assert parse_automation({k: v for k, v in DOCUMENT.items() if k != missing}) is None


@pytest.mark.parametrize("missing", ["workspaceId", "name", "createdAt", "mainDm", "totalRuns"])
def test_a_document_may_lack_these(missing: str) -> None:
    assert parse_automation({k: v for k, v in DOCUMENT.items() if k != missing}) is not None


@pytest.mark.parametrize(
    ("trigger", "match", "keywords"),
    [
        ({"keywords": ["price"]}, "contains", ("price",)),
        ({"keywords": ["price"], "match": None}, "contains", ("price",)),
        ({"keywords": "Price"}, "contains", ("price",)),
        ({"keywords": ["B", "a", "b ", None, " ", "ＡＢ"]}, "contains", ("b", "a", "ab")),
        ({"keywords": [2024, True, 1.5]}, "contains", ("2024",)),
        ({"match": "any"}, "any", ()),
        ({"match": "any", "keywords": ["price"]}, "any", ("price",)),
    ],
)
def test_triggers_in_every_form(
    trigger: dict[str, Any], match: str, keywords: tuple[str, ...]
) -> None:
    automation = parse(trigger=trigger)
    assert automation is not None
    assert (automation.match, automation.keywords) == (match, keywords)


@pytest.mark.parametrize(
    ("post_ids", "expected"),
    [
        (None, set()),
        ([], set()),
        (["1", "2", "1"], {"1", "2"}),
        ("1", {"1"}),
        ([1, Int64(2)], {"1", "2"}),
        (["1", None], {"1"}),
    ],
)
def test_posts_in_every_form(post_ids: Any, expected: set[str]) -> None:
    automation = parse_trigger(postIds=post_ids)
    assert automation is not None
    assert automation.post_ids == expected


@pytest.mark.parametrize("type_", ["story_reply", "dm_auto_responder"])
@pytest.mark.parametrize("post_ids", [["1"], [None], {}, None])
def test_posts_mean_nothing_where_there_are_none(type_: str, post_ids: Any) -> None:
    automation = parse(type=type_, trigger={"match": "any", "postIds": post_ids})
    assert automation is not None
    assert automation.post_ids == frozenset()


@pytest.mark.parametrize("account_id", [17841400000000001, Int64(17841400000000001)])
def test_an_account_may_be_stored_as_a_number(account_id: int) -> None:
    automation = parse(accountId=account_id)
    assert automation is not None
    assert automation.account_id == "17841400000000001"


@pytest.mark.parametrize(
    ("workspace_id", "expected"),
    [
        (None, ""),
        ({}, ""),
        ("w1", "w1"),
        (5, "5"),
        (ObjectId("65a000000000000000000001"), "65a000000000000000000001"),
    ],
)
def test_workspace_in_every_form(workspace_id: Any, expected: str) -> None:
    automation = parse(workspaceId=workspace_id)
    assert automation is not None
    assert automation.workspace_id == expected


@pytest.mark.parametrize(
    ("created_at", "expected"),
    [
        (None, None),
        (NAIVE, CREATED_AT),
        (CREATED_AT.astimezone(timezone(timedelta(hours=2))), CREATED_AT),
        ("2026-01-02T03:04:05Z", CREATED_AT),
        ("2026-01-02T03:04:05.000+00:00", CREATED_AT),
        ("2026-01-02T03:04:05", CREATED_AT),
        ("yesterday", None),
        ("0001-01-01T00:00:00+14:00", None),
        (1767323045, None),
        ({}, None),
    ],
)
def test_created_at_in_every_form(created_at: Any, expected: datetime | None) -> None:
    automation = parse(createdAt=created_at)
    assert automation is not None
    assert automation.created_at == expected
    assert automation.created_at is None or automation.created_at.tzinfo is UTC


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.builds(ObjectId, st.binary(min_size=12, max_size=12))
    | st.sampled_from(["any", "word", "comment_to_dm", "story_reply"]),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["keywords", "match", "postIds", "text", "texts", "links", "url"]),
            inner,
        )
    ),
    max_leaves=10,
)


@settings(deadline=None)
@given(changes=st.dictionaries(st.sampled_from([*DOCUMENT, "askFollow"]), VALUES))
def test_no_document_crashes(changes: dict[str, Any]) -> None:
    automation = parse(**changes)
    if automation is not None:
        assert automation.keywords or automation.match == "any"
        assert automation.trigger_type
        BSON.encode({"send": automation.send})

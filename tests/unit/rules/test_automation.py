from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from bson import BSON, Int64, ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

from automations.rules.automation import Automation, parse_automation

CREATED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NAIVE = CREATED_AT.replace(tzinfo=None)
EAST = timezone(timedelta(hours=2))
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


def read(**changes: Any) -> Automation:
    automation = parse(**changes)
    assert automation is not None
    return automation


def test_a_document_is_read_whole() -> None:
    automation = read()
    assert automation.key == automation.id == "a1"
    assert (automation.workspace_id, automation.account_id) == ("w1", "17841400000000001")
    assert (automation.type, automation.match) == ("comment_to_dm", "word")
    assert (automation.keywords, automation.post_ids) == (("price",), {"18050000000000001"})
    assert automation.created_at == CREATED_AT
    assert [step.name for step in automation.steps] == ["comment_reply", "opening_dm", "main_dm"]
    assert automation.trigger_type == "comment_reply"
    assert BSON.encode(automation.send or {}).decode() == {
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
    assert read(**changes).trigger_type == expected


def test_an_automation_with_nothing_to_send_still_matches() -> None:
    automation = read(commentReply=None, openingDm=None, mainDm=None)
    assert (automation.steps, automation.send) == ((), None)


def test_an_object_id_keeps_its_type_as_the_key() -> None:
    key = ObjectId()
    automation = read(_id=key)
    assert automation.key is key
    assert automation.id == str(key)


NEVER_A_RULE: dict[str, list[Any]] = {
    "_id": [None],
    "isActive": [False, None, "true"],
    "type": ["welcome_flow", None, ["comment_to_dm"]],
    "accountId": [None, "", 1.5, True, ["17841400000000001"]],
    "trigger": [
        *[None, [], "price", {}],
        *({"keywords": one} for one in ([], None, [None, "", "  ", {}])),
        *({"keywords": ["price"], "match": one} for one in ("regex", ["word"], {}, "")),
        *({"match": "any", "postIds": one} for one in ([None], [""], {"id": "1"}, [1.5])),
    ],
}


@pytest.mark.parametrize(("field", "values"), NEVER_A_RULE.items())
def test_what_can_never_match_is_no_rule(field: str, values: list[Any]) -> None:
    for value in values:
        assert parse(**{field: value}) is None, value


@pytest.mark.parametrize("missing", DOCUMENT)
def test_what_a_document_needs(missing: str) -> None:
    found = parse_automation({k: v for k, v in DOCUMENT.items() if k != missing})
    needed = {"_id", "type", "accountId", "isActive", "trigger"}
    assert (found is None) == (missing in needed)


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
def test_triggers_in_every_form(trigger: dict[str, Any], match: str, keywords: Any) -> None:
    automation = read(trigger=trigger)
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
    assert read(trigger={"match": "any", "postIds": post_ids}).post_ids == expected


@pytest.mark.parametrize("type_", ["story_reply", "dm_auto_responder"])
@pytest.mark.parametrize("post_ids", [["1"], [None], {}, None])
def test_posts_mean_nothing_where_there_are_none(type_: str, post_ids: Any) -> None:
    assert read(type=type_, trigger={"match": "any", "postIds": post_ids}).post_ids == frozenset()


OBJECT_ID = ObjectId("65a000000000000000000001")
FORMS: list[tuple[str, str, Any, list[Any]]] = [
    ("accountId", "account_id", "17841400000000001",
     [17841400000000001, Int64(17841400000000001)]),
    ("workspaceId", "workspace_id", "", [None, {}]),
    ("workspaceId", "workspace_id", "5", [5]),
    ("workspaceId", "workspace_id", str(OBJECT_ID), [OBJECT_ID]),
    ("createdAt", "created_at", CREATED_AT, [NAIVE, CREATED_AT.astimezone(EAST)]),
    ("createdAt", "created_at", CREATED_AT,
     [f"2026-01-02T03:04:05{zone}" for zone in ("Z", ".000+00:00", "")]),
    ("createdAt", "created_at", None,
     [None, "yesterday", "0001-01-01T00:00:00+14:00", 1767323045, {}]),
]  # fmt: skip


@pytest.mark.parametrize(("field", "attribute", "expected", "forms"), FORMS)
def test_fields_in_every_form(field: str, attribute: str, expected: Any, forms: list[Any]) -> None:
    for stored in forms:
        found = getattr(read(**{field: stored}), attribute)
        assert found == expected, stored
        assert not isinstance(found, datetime) or found.tzinfo is UTC


FIELDS = ("keywords", "match", "postIds", "text", "texts", "links", "url")
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
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(FIELDS), inner),
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

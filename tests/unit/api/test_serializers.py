from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Int64, ObjectId
from django.http import QueryDict
from rest_framework.exceptions import ValidationError

from automations.api.errors import build_error
from automations.api.serializers import (
    AutomationChangesSerializer,
    AutomationSerializer,
    build_changes,
    build_document,
)
from automations.rules.automation import parse_automation

AT = datetime(2026, 11, 23, 10, 30, tzinfo=UTC)
MINIMAL: dict[str, Any] = {"name": "Link", "type": "comment_to_dm", "accountId": "178414"}
FULL: dict[str, Any] = {
    **MINIMAL,
    "isActive": False,
    "trigger": {"keywords": ["LINK"], "match": "word", "postIds": ["1", "2"]},
    "commentReply": {"texts": ["Sent!", "Look into your messages"]},
    "openingDm": {"text": "Hi", "button": "Send me the link"},
    "askFollow": {"text": "Follow us first", "button": "Done"},
    "mainDm": {"text": "Here", "links": [{"title": "Shop", "url": "https://example.com/a?b=c"}]},
}


CONTEXT = {"verify_account": lambda account_id: None}


def refuse(data: Any, *, changes: bool = False) -> dict[str, str | None]:
    checks = AutomationChangesSerializer if changes else AutomationSerializer
    serializer = checks(data=data, context=CONTEXT)
    with pytest.raises(ValidationError) as caught:
        serializer.is_valid(raise_exception=True)
    return build_error(caught.value)


def accept(data: Any) -> dict[str, Any]:
    serializer = AutomationSerializer(data=data, context=CONTEXT)
    serializer.is_valid(raise_exception=True)
    return build_document(serializer.validated_data, workspace_id="ws", at=AT)


def test_a_full_automation_is_stored_as_it_was_sent() -> None:
    document = accept(FULL)
    assert isinstance(document.pop("_id"), ObjectId)
    assert isinstance(document["totalRuns"], Int64)
    assert document == {
        **FULL, "workspaceId": "ws", "totalRuns": 0, "lastRunAt": None,
        "createdAt": AT, "updatedAt": AT,
    }  # fmt: skip


def test_a_full_automation_is_one_that_matches() -> None:
    automation = parse_automation(accept({**FULL, "isActive": True}))
    assert automation is not None
    assert automation.trigger_type == "comment_reply"
    assert len(automation.steps) == 4


def test_what_is_absent_has_its_default() -> None:
    document = accept(MINIMAL)
    assert document["isActive"] is True
    assert document["trigger"] == {"match": "contains", "keywords": []}
    assert not {"commentReply", "openingDm", "askFollow", "mainDm"} & set(document)


@pytest.mark.parametrize(
    "parts",
    [
        {"openingDm": None, "mainDm": {}, "commentReply": {"texts": []}},
        {"openingDm": {"text": " ", "button": ""}, "mainDm": {"text": "", "links": []}},
    ],
)
def test_an_empty_part_is_no_part(parts: dict[str, Any]) -> None:
    document = accept({**MINIMAL, **parts})
    assert not set(parts) & set(document)


LINK: dict[str, Any] = {"title": "A", "url": "https://e.com"}


def with_links(*links: dict[str, Any]) -> dict[str, Any]:
    return {"mainDm": {"text": "x", "links": list(links)}}


REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    ({"name": ""}, "name", "blank"),
    ({"name": None}, "name", "null"),
    ({"name": 7}, "name", "invalid"),
    ({"name": "x" * 201}, "name", "max_length"),
    ({"name": "\ud800"}, "name", "surrogate_characters_not_allowed"),
    ({"name": "a\0b"}, "name", "null_characters_not_allowed"),
    ({"type": "poll"}, "type", "invalid_choice"),
    ({"type": {"$ne": 1}}, "type", "invalid_choice"),
    ({"accountId": 17841400000000001}, "accountId", "invalid"),
    ({"accountId": {"$gt": ""}}, "accountId", "invalid"),
    ({"isActive": {"$ne": False}}, "isActive", "invalid"),
    ({"isActive": None}, "isActive", "null"),
    ({"surprise": 1}, "surprise", "unknown"),
    ({"$where": "1"}, "$where", "unknown"),
    ({"trigger.match": "any"}, "trigger.match", "unknown"),
    ({"_id": "x"}, "_id", "read_only"),
    ({"workspaceId": "other"}, "workspaceId", "read_only"),
    ({"totalRuns": 9}, "totalRuns", "read_only"),
    ({"deletedAt": None}, "deletedAt", "read_only"),
    ({"name": {"$gt": ""}}, "name", "invalid"),
    ({"trigger": None}, "trigger", "null"),
    ({"trigger": "LINK"}, "trigger", "invalid"),
    ({"trigger": {"match": "regex"}}, "trigger.match", "invalid_choice"),
    ({"trigger": {"keywords": "LINK"}}, "trigger.keywords", "not_a_list"),
    ({"trigger": {"keywords": ["ok", " "]}}, "trigger.keywords.1", "blank"),
    ({"trigger": {"keywords": [{"$regex": ".*"}]}}, "trigger.keywords.0", "invalid"),
    ({"trigger": {"keywords": ["x"] * 501}}, "trigger.keywords", "max_length"),
    ({"trigger": {"postIds": [1]}}, "trigger.postIds.0", "invalid"),
    ({"trigger": {"$where": "1"}}, "trigger.$where", "unknown"),
    ({"commentReply": {"texts": ["x" * 2201]}}, "commentReply.texts.0", "max_length"),
    ({"openingDm": {"text": "é" * 501}}, "openingDm.text", "max_bytes"),
    ({"openingDm": {"text": "x" * 641, "button": "Go"}}, "openingDm.text", "max_length"),
    ({"openingDm": {"text": "Hi", "button": "x" * 21}}, "openingDm.button", "max_length"),
    ({"openingDm": {"text": "https://e.com/?access_token=a"}}, "openingDm.text", "credential"),
    ({"askFollow": {"button": "Done"}}, "askFollow.text", "required"),
    ({"mainDm": {"links": [LINK]}}, "mainDm.text", "required"),
    (with_links(LINK | {"url": "javascript:alert(1)"}), "mainDm.links.0.url", "invalid"),
    (with_links(LINK | {"url": "ftp://e.com"}), "mainDm.links.0.url", "invalid"),
    (with_links({"url": "https://e.com"}), "mainDm.links.0.title", "required"),
    (with_links(*[LINK] * 4), "mainDm.links", "max_length"),
    (with_links(LINK | {"x": 1}), "mainDm.links.0.x", "unknown"),
]  # fmt: skip


@pytest.mark.parametrize("is_change", [False, True])
@pytest.mark.parametrize(("part", "field", "code"), REFUSALS)
def test_refusals_name_fields(part: dict[str, Any], field: str, code: str, is_change: bool) -> None:
    data = part if is_change else {**MINIMAL, **part}
    error = refuse(data, changes=is_change)
    assert (error["field"], error["code"]) == (field, code)
    assert error["message"]


@pytest.mark.parametrize("field", ["name", "type", "accountId"])
def test_a_new_automation_needs(field: str) -> None:
    data = {name: value for name, value in MINIMAL.items() if name != field}
    assert refuse(data)["field"] == field


@pytest.mark.parametrize("data", [None, [], "text", 7])
def test_a_body_that_is_no_object_is_refused(data: Any) -> None:
    assert refuse(data)["field"] is None


def test_at_the_limits_everything_fits() -> None:
    accept({
        **MINIMAL,
        "openingDm": {"text": "é" * 500},
        "askFollow": {"text": "x" * 640, "button": "x" * 20},
        "mainDm": {"text": "é" * 500},
    })  # fmt: skip


def test_changes_name_what_is_set_and_what_is_removed() -> None:
    serializer = AutomationChangesSerializer(
        data={"isActive": False, "trigger": {"keywords": ["a"]}, "mainDm": None, "openingDm": {}}
    )
    serializer.is_valid(raise_exception=True)
    changes, removed = build_changes(serializer.validated_data, at=AT)
    assert changes == {
        "isActive": False, "trigger": {"match": "contains", "keywords": ["a"]}, "updatedAt": AT,
    }  # fmt: skip
    assert set(removed) == {"openingDm", "mainDm"}


def test_an_html_form_is_refused_by_field_too() -> None:
    form = QueryDict("name=x&type=comment_to_dm&accountId=1&mainDm.surprise=1&trigger.match=any")
    assert refuse(form)["field"] == "mainDm.surprise"
    form = QueryDict("name=x&type=comment_to_dm&accountId=1&mainDm.links=no+url&mainDm.text=a")
    assert refuse(form)["field"] == "mainDm.links.0.title"

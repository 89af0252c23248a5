from typing import Any

import pytest

from automations.rules.steps import STEPS_BY_TYPE, build_steps

LINK = {"title": "Shop", "url": "https://shop.example"}
DOCUMENT: dict[str, Any] = {
    "commentReply": {"texts": ["Sent!", "Look into your messages"]},
    "openingDm": {"text": "Hi!", "button": "Send me the link"},
    "askFollow": {"text": "Follow us first", "button": "I follow"},
    "mainDm": {"text": "Here", "links": [LINK]},
}
COMMENT_REPLY = {"name": "comment_reply", "texts": ["Sent!", "Look into your messages"]}
MESSAGES = [
    {"name": "opening_dm", "text": "Hi!", "button": "Send me the link"},
    {"name": "ask_follow", "text": "Follow us first", "button": "I follow"},
    {"name": "main_dm", "text": "Here", "links": [LINK]},
]


def build(type_: str = "comment_to_dm", **parts: Any) -> list[dict[str, Any]]:
    steps = build_steps(parts, type_)
    assert [step.name for step in steps] == [step.content["name"] for step in steps]
    return [step.content for step in steps]


@pytest.mark.parametrize(
    ("type_", "steps"),
    [
        ("comment_to_dm", [COMMENT_REPLY, *MESSAGES]),
        ("story_reply", MESSAGES),
        ("dm_auto_responder", MESSAGES),
        ("welcome_flow", []),
    ],
)
def test_each_type_has_its_steps_in_order(type_: str, steps: list[dict[str, Any]]) -> None:
    assert build(type_, **DOCUMENT) == steps


@pytest.mark.parametrize("field", DOCUMENT)
@pytest.mark.parametrize("part", [None, {}, [], "text", 5, {"text": ""}, {"text": 5}])
def test_a_part_that_is_absent_or_empty_is_no_step(field: str, part: Any) -> None:
    others = {name: value for name, value in DOCUMENT.items() if name != field}
    assert build(**others, **{field: part}) == build(**others)
    assert len(build(**others)) == len(STEPS_BY_TYPE["comment_to_dm"]) - 1


SENT = {"texts": ["Sent!"]}
HI, HERE = {"text": "Hi!", "button": None}, {"text": "Here", "links": []}
NO_TEXTS: list[Any] = [[], [""], [" ", None], "", " ", None, {}, 5]
NO_LINKS: list[Any] = [[], [{}], [{"title": "Shop"}], [{"url": " "}], "x", {}]
SOME_LINKS: list[Any] = [{"url": "https://a.example"}, {"title": "No"}, None, "x", {"url": 5}]


@pytest.mark.parametrize(
    ("field", "part", "expected"),
    [
        ("commentReply", {"texts": [" ", "", None, 5, "Sent!"]}, SENT),
        ("commentReply", {"texts": ["Sent!", "Sent!"]}, {"texts": ["Sent!", "Sent!"]}),
        ("commentReply", {"texts": "Sent!"}, SENT),
        ("commentReply", {"texts": [" Sent! "]}, {"texts": [" Sent! "]}),
        *[("commentReply", {"texts": texts}, None) for texts in NO_TEXTS],
        *[("openingDm", {"text": "Hi!", "button": one}, HI) for one in (None, "", " ", 5, {})],
        ("openingDm", {"button": "Send"}, None),
        ("askFollow", {"text": " ", "button": "Yes"}, None),
        *[("mainDm", part, HERE) for part in ({"text": "Here"}, {"text": "Here", "links": None})],
        ("mainDm", {"links": [LINK]}, {"text": "", "links": [LINK]}),
        ("mainDm", {"links": SOME_LINKS}, {"text": "", "links": [{"title": "", **SOME_LINKS[0]}]}),
        *[("mainDm", {"text": "", "links": links}, None) for links in NO_LINKS],
    ],
)
def test_only_what_can_be_sent_is_a_step(field: str, part: Any, expected: Any) -> None:
    found = build(**{field: part})
    assert [one | {"name": ""} for one in found] == ([{"name": "", **expected}] if expected else [])

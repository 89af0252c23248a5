from typing import Any

import pytest

from automations.rules.steps import STEPS_BY_TYPE, build_steps

DOCUMENT: dict[str, Any] = {
    "commentReply": {"texts": ["Sent!", "Look into your messages"]},
    "openingDm": {"text": "Hi!", "button": "Send me the link"},
    "askFollow": {"text": "Follow us first", "button": "I follow"},
    "mainDm": {"text": "Here", "links": [{"title": "Shop", "url": "https://shop.example"}]},
}
COMMENT_REPLY = {"name": "comment_reply", "texts": ["Sent!", "Look into your messages"]}
MESSAGES = [
    {"name": "opening_dm", "text": "Hi!", "button": "Send me the link"},
    {"name": "ask_follow", "text": "Follow us first", "button": "I follow"},
    {
        "name": "main_dm",
        "text": "Here",
        "links": [{"title": "Shop", "url": "https://shop.example"}],
    },
]


def build(type_: str = "comment_to_dm", **parts: Any) -> list[dict[str, Any]]:
    steps = build_steps(parts, type_)
    assert [step.name for step in steps] == [step.content["name"] for step in steps]
    return [step.content for step in steps]


def test_a_comment_is_replied_to_before_the_messages() -> None:
    assert build(**DOCUMENT) == [COMMENT_REPLY, *MESSAGES]


@pytest.mark.parametrize("type_", ["story_reply", "dm_auto_responder"])
def test_a_message_has_no_comment_reply(type_: str) -> None:
    assert build(type_, **DOCUMENT) == MESSAGES


def test_an_unknown_type_has_no_steps() -> None:
    assert build("welcome_flow", **DOCUMENT) == []


@pytest.mark.parametrize("field", DOCUMENT)
@pytest.mark.parametrize("part", [None, {}, [], "text", 5, {"text": ""}, {"text": 5}])
def test_a_part_that_is_absent_or_empty_is_no_step(field: str, part: Any) -> None:
    others = {name: value for name, value in DOCUMENT.items() if name != field}
    assert build(**others, **{field: part}) == build(**others)
    assert len(build(**others)) == len(STEPS_BY_TYPE["comment_to_dm"]) - 1


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([" ", "", None, 5, "Sent!"], ["Sent!"]),
        (["Sent!", "Sent!"], ["Sent!", "Sent!"]),
        ("Sent!", ["Sent!"]),
        ([" Sent! "], [" Sent! "]),
    ],
)
def test_only_texts_that_can_be_sent_are_replies(texts: Any, expected: list[str]) -> None:
    assert build(commentReply={"texts": texts}) == [{"name": "comment_reply", "texts": expected}]


@pytest.mark.parametrize("texts", [[], [""], [" ", None], "", " ", None, {}, 5])
def test_no_text_is_no_reply(texts: Any) -> None:
    assert build(commentReply={"texts": texts}) == []


@pytest.mark.parametrize("button", [None, "", " ", 5, {}])
def test_a_message_may_have_no_button(button: Any) -> None:
    expected = [{"name": "opening_dm", "text": "Hi!", "button": None}]
    assert build(openingDm={"text": "Hi!", "button": button}) == expected


def test_a_button_alone_is_no_message() -> None:
    assert build(openingDm={"button": "Send"}, askFollow={"text": " ", "button": "Yes"}) == []


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"text": "Here"}, {"text": "Here", "links": []}),
        ({"text": "Here", "links": None}, {"text": "Here", "links": []}),
        (
            {"links": [{"title": "Shop", "url": "https://shop.example"}]},
            {"text": "", "links": [{"title": "Shop", "url": "https://shop.example"}]},
        ),
        (
            {
                "links": [
                    {"url": "https://a.example"},
                    {"title": "No address"},
                    None,
                    "x",
                    {"url": 5},
                ]
            },
            {"text": "", "links": [{"title": "", "url": "https://a.example"}]},
        ),
    ],
)
def test_a_main_message_is_text_or_links(part: Any, expected: dict[str, Any]) -> None:
    assert build(mainDm=part) == [{"name": "main_dm", **expected}]


@pytest.mark.parametrize("links", [[], [{}], [{"title": "Shop"}], [{"url": " "}], "x", {}])
def test_a_main_message_with_neither_is_none(links: Any) -> None:
    assert build(mainDm={"text": "", "links": links}) == []

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automations.instagram.events import Event, EventType
from automations.rules.automation import MATCHES, Automation, normalise_text, parse_automation
from automations.rules.matching import AUTOMATION_TYPE_BY_EVENT_TYPE, AccountRules, has_word
from automations.rules.steps import STEPS_BY_TYPE

ACCOUNT = "17841400000000001"
CREATED_AT = datetime(2026, 1, 1, tzinfo=UTC)
EVENT_TYPES: list[EventType] = ["comment", "story_reply", "story_mention", "message"]


def build_rule(id_: str = "a", *, type_: str = "comment_to_dm", **fields: Any) -> Automation:
    trigger = {
        "match": fields.get("match"),
        "keywords": list(fields.get("keywords", ["price"])),
        "postIds": fields.get("post_ids"),
    }
    automation = parse_automation({
        "_id": id_, "accountId": ACCOUNT, "type": type_, "isActive": True, "trigger": trigger,
        "createdAt": fields.get("created_at", CREATED_AT),
    })  # fmt: skip
    assert automation is not None
    return automation


def build_event(text: str | None, *media_ids: str, type_: Any = "comment", **more: Any) -> Event:
    kind = "comment" if type_ == "comment" else "message"
    values: dict[str, Any] = {"event_id": "1", "account_id": ACCOUNT, "user_id": "2"} | more
    return Event(type=type_, kind=kind, text=text, media_ids=media_ids, **values)


def find(rules: list[Automation], event: Event) -> str | None:
    found = AccountRules(rules).match(event)
    return None if found is None else found.id


@pytest.mark.parametrize(
    ("match", "matching", "others"),
    [
        ("contains", ["What's the PRICE?", "overpriced"], ["cost?"]),
        (None, ["overpriced"], ["cost?"]),
        ("word", ["What's the price?", "overpriced price"], ["overpriced"]),
        ("exact", ["  ＰＲＩＣＥ "], ["price?", "the price"]),
        ("any", ["hello"], []),
    ],
)
def test_each_match(match: str | None, matching: list[str], others: list[str]) -> None:
    rules = [build_rule(match=match)]
    assert [find(rules, build_event(text)) for text in matching] == ["a"] * len(matching)
    assert [find(rules, build_event(text)) for text in others] == [None] * len(others)


@pytest.mark.parametrize("match", MATCHES)
@pytest.mark.parametrize("text", [None, "", "  \n"])
def test_an_event_without_text_matches_only_any(match: str, text: str | None) -> None:
    found = find([build_rule(match=match, keywords=["price", " "])], build_event(text))
    assert found == ("a" if match == "any" else None)


@pytest.mark.parametrize(
    ("keywords", "matching", "others"),
    [
        (["cost", "how much", "🔥"], ["How  Much", "🔥"], ["much"]),
        (["c++", ".*", "(a|b)"], ["C++"], ["anything", "a"]),
    ],
)
@pytest.mark.parametrize("match", ["contains", "word", "exact"])
def test_any_keyword_is_enough_and_none_is_a_pattern(
    match: str, keywords: list[str], matching: list[str], others: list[str]
) -> None:
    rules = [build_rule(match=match, keywords=keywords)]
    found = [find(rules, build_event(text)) for text in matching + others]
    assert found == ["a"] * len(matching) + [None] * len(others)


@pytest.mark.parametrize("event_type", EVENT_TYPES)
@pytest.mark.parametrize("type_", STEPS_BY_TYPE)
def test_each_event_starts_its_own_type_alone(type_: str, event_type: EventType) -> None:
    found = find([build_rule(match="any", type_=type_)], build_event("price", type_=event_type))
    assert (found == "a") == (type_ == AUTOMATION_TYPE_BY_EVENT_TYPE[event_type])
    assert find([], build_event("price", type_=event_type)) is None


def test_every_event_type_and_every_automation_type_is_in_the_table() -> None:
    assert AUTOMATION_TYPE_BY_EVENT_TYPE == {
        "comment": "comment_to_dm", "story_reply": "story_reply", "story_mention": "story_reply",
        "message": "dm_auto_responder",
    }  # fmt: skip
    # A tap carries a run on and starts none: no rule is asked.
    assert set(get_args(EventType)) == {*EVENT_TYPES, "tap"}
    assert set(AUTOMATION_TYPE_BY_EVENT_TYPE.values()) == set(STEPS_BY_TYPE)


@pytest.mark.parametrize("changes", [{"parent_id": "9"}, {"is_live": True}])
def test_replies_and_live_comments_are_comments(changes: dict[str, Any]) -> None:
    assert find([build_rule()], build_event("price", **changes)) == "a"


@pytest.mark.parametrize("match", MATCHES)
@pytest.mark.parametrize(
    ("media_ids", "is_match"),
    [((), False), (("1",), True), (("9",), False), (("9", "2"), True), (("2", "9"), True)],
)
def test_named_posts_are_those_of_the_media_and_of_its_original(
    match: str, media_ids: tuple[str, ...], is_match: bool
) -> None:
    rules = [build_rule(match=match, post_ids=["1", "2"])]
    assert find(rules, build_event("price", *media_ids)) == ("a" if is_match else None)


def test_the_most_specific_wins_then_the_oldest_then_the_id() -> None:
    later = CREATED_AT + timedelta(milliseconds=1)
    in_order = [
        build_rule(f"{9 - n}", match=match, post_ids=posts, created_at=later)
        for n, (posts, match) in enumerate((p, m) for p in (["1"], None) for m in MATCHES)
    ]
    event = build_event("price", "1")
    while in_order:
        assert find(in_order, event) == in_order[0].id
        assert find(in_order[::-1], event) == in_order[0].id
        in_order.pop(0)


RULES = st.lists(
    st.builds(
        build_rule,
        st.text("ab", min_size=1, max_size=2),
        match=st.sampled_from(MATCHES),
        keywords=st.lists(st.sampled_from(["a", "b", "ab", "a b", "A"]), min_size=1, max_size=3),
        post_ids=st.none() | st.lists(st.sampled_from("12"), min_size=1),
        type_=st.sampled_from(sorted(STEPS_BY_TYPE)),
        created_at=st.none() | st.just(CREATED_AT) | st.just(CREATED_AT + timedelta(days=1)),
    ),
    max_size=8,
    unique_by=lambda rule: rule.id,
)


def is_answered(rule: Automation, event: Event) -> bool:
    """Say by the definition, rule by rule, what AccountRules finds by its indexes."""
    text = normalise_text(event.text or "")
    tests = {
        "exact": lambda keyword: text == keyword,
        "word": lambda keyword: has_word(text, keyword),
        "contains": lambda keyword: keyword in text,
        "any": lambda keyword: True,
    }
    is_there = not rule.post_ids or bool(rule.post_ids & set(event.media_ids))
    return is_there and any(map(tests[rule.match], rule.keywords))


@settings(deadline=None)
@given(
    rules=RULES,
    type_=st.sampled_from(EVENT_TYPES),
    text=st.none() | st.text("ab ", max_size=5),
    media_ids=st.lists(st.sampled_from("123"), unique=True, max_size=2),
)
def test_the_indexes_find_what_the_definition_says(
    rules: list[Automation], type_: EventType, text: str | None, media_ids: list[str]
) -> None:
    event = build_event(text, *media_ids, type_=type_)
    wanted = AUTOMATION_TYPE_BY_EVENT_TYPE[type_]
    found = [rule for rule in rules if rule.type == wanted and is_answered(rule, event)]
    found.sort(
        key=lambda rule: (
            not rule.post_ids,
            ["exact", "word", "contains", "any"].index(rule.match),
            rule.created_at is None,
            rule.created_at or CREATED_AT,
            rule.id,
        )
    )
    assert find(rules, event) == (found[0].id if found else None)

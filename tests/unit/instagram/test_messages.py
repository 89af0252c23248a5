"""Messages as the Graph API takes them, always within Meta's limits."""

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automations.demo.sandbox.graph_api import read_message
from automations.instagram.messages import (
    DEFAULT_BUTTON_TITLE,
    MESSAGE_BYTES,
    UnsendableContent,
    build_message,
    choose_public_reply,
    cut_text,
)

LINKS = [{"title": "Open the lookbook", "url": "https://shop.example.com/lookbook"}]


class TestText:
    def test_a_text_alone(self) -> None:
        assert build_message({"name": "main_dm", "text": "Hello", "links": []}) == {"text": "Hello"}

    def test_a_button_without_a_payload_is_left_out(self) -> None:
        step = {"name": "opening_dm", "text": "Hello", "button": "Yes"}
        assert build_message(step) == {"text": "Hello"}

    @pytest.mark.parametrize("text", ["", "  ", None])
    def test_nothing_cannot_be_sent(self, text: Any) -> None:
        with pytest.raises(UnsendableContent):
            build_message({"name": "main_dm", "text": text})
        with pytest.raises(UnsendableContent):
            build_message({"name": "ask_follow", "text": text}, payload="p")


class TestButton:
    def test_a_template_with_a_postback(self) -> None:
        step = {"name": "opening_dm", "text": "Want it?", "button": "Yes, send it"}
        button = {"type": "postback", "title": "Yes, send it", "payload": "run1.abc"}
        assert build_message(step, payload="run1.abc") == {
            "attachment": {
                "type": "template",
                "payload": {"template_type": "button", "text": "Want it?", "buttons": [button]},
            }
        }

    @pytest.mark.parametrize("title", [None, " \x1f"])
    def test_a_step_without_a_title_has_the_default(self, title: str | None) -> None:
        message = build_message({"name": "opening_dm", "text": "Hi", "button": title}, payload="p")
        [button] = message["attachment"]["payload"]["buttons"]
        assert button["title"] == DEFAULT_BUTTON_TITLE

    @pytest.mark.parametrize(("length", "is_template"), [(640, True), (641, False)])
    def test_a_long_text_has_a_quick_reply(self, length: int, is_template: bool) -> None:
        message = build_message({"text": "x" * length, "button": "Go"}, payload="p")
        assert ("attachment" in message) is is_template
        if not is_template:
            assert message["quick_replies"] == [
                {"content_type": "text", "title": "Go", "payload": "p"}
            ]


class TestLinks:
    def test_up_to_three_links_are_buttons(self) -> None:
        message = build_message({"name": "main_dm", "text": "Here:", "links": LINKS * 3})
        payload = message["attachment"]["payload"]
        assert payload["text"] == "Here:"
        assert payload["buttons"] == [{"type": "web_url", **LINKS[0]}] * 3

    def test_links_without_a_text_have_one(self) -> None:
        message = build_message({"name": "main_dm", "text": "", "links": LINKS})
        assert message["attachment"]["payload"]["text"] == "👇"

    @pytest.mark.parametrize(
        ("url", "title"), [("https://shop.example/a", "shop.example"), ("https://[broken", "Open")]
    )
    def test_a_link_without_a_title_is_named_by_its_host(self, url: str, title: str) -> None:
        for none in ("", " "):
            message = build_message({"text": "Here", "links": [{"title": none, "url": url}]})
            assert message["attachment"]["payload"]["buttons"][0]["title"] == title

    def test_more_links_are_lines(self) -> None:
        links = [*LINKS * 3, {"title": "", "url": "https://a.example"}]
        message = build_message({"text": "Here:", "links": links})
        line = "Open the lookbook: https://shop.example.com/lookbook"
        assert message == {"text": "\n".join(["Here:", *[line] * 3, "https://a.example"])}

    def test_a_long_text_gives_way_to_the_links(self) -> None:
        message = build_message({"text": "ä" * 900, "links": LINKS})
        assert message["text"].endswith("…\nOpen the lookbook: https://shop.example.com/lookbook")
        assert len(message["text"].encode()) <= MESSAGE_BYTES

    def test_links_that_do_not_fit_are_left_out_whole(self) -> None:
        links = [{"title": "", "url": f"https://a.example/{n}{'x' * 400}"} for n in range(4)]
        text = build_message({"text": "Here:", "links": links})["text"]
        assert text.splitlines() == ["Here:", links[0]["url"], links[1]["url"]]

    def test_a_link_too_long_for_any_message(self) -> None:
        links = [{"title": "", "url": "https://a.example/" + "x" * 1000}] * 4
        with pytest.raises(UnsendableContent):
            build_message({"text": "Here:", "links": links})


@given(
    text=st.text(max_size=1500),
    button=st.none() | st.text(max_size=40),
    links=st.lists(
        st.fixed_dictionaries(
            {"title": st.text(max_size=40), "url": st.just("https://a.example/" + "x" * 60)}
        ),
        max_size=6,
    ),
    payload=st.none() | st.just("p" * 1000),
)
def test_meta_takes_every_message_that_is_built(
    text: str, button: str | None, links: list[dict[str, str]], payload: str | None
) -> None:
    step = {"text": text, "button": button, "links": links}
    try:
        message = build_message(step, payload=payload)
    except UnsendableContent:
        assert not text.strip()
        return
    read_message(message)


class TestCutText:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("plenty", "plenty"),
            ("0123456789abc", "012345…"),
            ("0123 56789abc", "0123…"),
            ("01234👍🏽 and more", "01234…"),
            ("12👩‍👩‍👧 and more", "12…"),
            ("1234\u0065\u0301\u0301 more", "1234…"),
            ("🇩🇪🇫🇷🇮🇹", "…"),
        ],
    )
    def test_cuts_between_characters(self, text: str, expected: str) -> None:
        assert cut_text(text, most_bytes=9) == expected

    @given(st.text(), st.integers(3, 60))
    def test_never_longer_and_always_a_beginning(self, text: str, most: int) -> None:
        cut = cut_text(text, most_bytes=most)
        assert len(cut.encode()) <= most
        assert text.encode("utf-8", "replace").decode().startswith(cut.removesuffix("…"))
        if cut != text and cut != "…":
            following = text[len(cut) - 1]
            assert not unicodedata.combining(following)


class TestPublicReply:
    def test_one_of_the_texts_always_the_same_for_a_trigger(self) -> None:
        step = {"name": "comment_reply", "texts": ["a", "b", "c"]}
        chosen = [choose_public_reply(step, trigger_id=str(number)) for number in range(300)]
        assert chosen == [choose_public_reply(step, trigger_id=str(n)) for n in range(300)]
        assert all(60 < chosen.count(text) < 140 for text in "abc")

    def test_without_texts_there_is_none(self) -> None:
        with pytest.raises(UnsendableContent):
            choose_public_reply({"texts": []}, trigger_id="t")

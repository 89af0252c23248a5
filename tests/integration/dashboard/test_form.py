"""The form of an automation: what the API accepts, said to people."""

import html
import re

from django.test import Client

from automations.api.serializers import AutomationSerializer
from automations.dashboard.form_fields import flatten_errors, list_fields
from tests.support.api_client import Db, build_automation

NEW = "/workspaces/ws1/new-automation/"
CHANGE = "/workspaces/ws1/automations/a1/change/"
LINK = {"title": "Shop | New", "url": "https://example.com/"}
FILLED = {
    "name": "Link", "type": "comment_to_dm", "accountId": "178414", "isActive": "true",
    "trigger.match": "contains", "trigger.keywords": "LINK\r\n info \r\n", "trigger.postIds": "",
    "commentReply.texts": "Sent!\r\nOn its way!", "openingDm.text": "", "openingDm.button": "",
    "askFollow.text": "", "askFollow.button": "", "mainDm.text": "Here",
    "mainDm.links": "Shop | New | https://example.com/",
}  # fmt: skip


def test_an_account_of_another_workspace_is_refused(db: Db, visitor: Client) -> None:
    db["accounts"].insert_one({"_id": "178414", "workspaceId": "ws2"})
    answer = visitor.post(NEW, FILLED)
    assert answer.status_code == 400
    assert "belongs to another workspace" in answer.text
    assert db["automations"].count_documents({}) == 0


def read_form(page: str) -> dict[str, str]:
    """What a browser would send back if nobody touched the form."""
    texts = r'<textarea[^>]* name="([^"]+)"[^>]*>\n(.*?)</textarea>'
    values = dict(re.findall(texts, page, re.DOTALL))
    for tag in re.findall(r"<input [^>]+>", page):
        name, value = re.search(r'name="([^"]+)"', tag), re.search(r'value="([^"]*)"', tag)
        if name and value and ("checkbox" not in tag or "checked" in tag):
            values[name[1]] = value[1]
    for name, options in re.findall(r'<select[^>]* name="([^"]+)">(.*?)</select>', page, re.DOTALL):
        chosen = re.search(r'value="([^"]+)" selected', options)
        values[name] = chosen[1] if chosen else ""
    values.pop("csrfmiddlewaretoken", None)
    return {name: html.unescape(value) for name, value in values.items()}


def test_the_form_has_every_field_of_the_api() -> None:
    nested = AutomationSerializer().fields
    names = {
        f"{name}.{inner}" if hasattr(field, "fields") else name
        for name, field in nested.items()
        for inner in getattr(field, "fields", ("",))
    }
    assert {field.name for field in list_fields()} == names


def test_it_makes_an_automation(db: Db, visitor: Client) -> None:
    page = visitor.get(NEW).text
    assert read_form(page).keys() == FILLED.keys()
    response = visitor.post(NEW, FILLED)
    [stored] = db["automations"].find({}, {"createdAt": 0, "updatedAt": 0})
    assert response["Location"] == f"/workspaces/ws1/automations/{stored.pop('_id')}/"
    assert stored == {
        "workspaceId": "ws1", "name": "Link", "type": "comment_to_dm", "accountId": "178414",
        "isActive": True,
        "trigger": {"match": "contains", "keywords": ["LINK", "info"], "postIds": []},
        "commentReply": {"texts": ["Sent!", "On its way!"]},
        "mainDm": {"text": "Here", "links": [LINK]},
        "totalRuns": 0, "lastRunAt": None,
    }  # fmt: skip


def test_the_one_account_of_a_workspace_is_filled_in(db: Db, visitor: Client) -> None:
    db["automations"].insert_one(build_automation(accountId="178414"))
    assert read_form(visitor.get(NEW).text)["accountId"] == "178414"


def test_what_is_saved_untouched_stays_as_it_was(db: Db, visitor: Client) -> None:
    visitor.post(NEW, FILLED)
    [before] = db["automations"].find()
    path = f"/workspaces/ws1/automations/{before['_id']}/change/"
    response = visitor.post(path, read_form(visitor.get(path).text))
    assert response.status_code == 302
    [after] = db["automations"].find()
    assert after.pop("updatedAt") > before.pop("updatedAt")
    assert after == before


def test_it_changes_and_removes(db: Db, visitor: Client) -> None:
    db["automations"].insert_one(
        build_automation(_id="a1", openingDm={"text": "Hi", "button": "Go"}, note="of others")
    )
    form = {**read_form(visitor.get(CHANGE).text), "name": "New", "trigger.keywords": "x"}
    del form["isActive"]  # as a browser leaves out what is not ticked
    form |= {"openingDm.text": "", "openingDm.button": ""}
    assert visitor.post(CHANGE, form)["Location"] == "/workspaces/ws1/automations/a1/"
    [stored] = db["automations"].find()
    assert (stored["name"], stored["isActive"], stored["note"]) == ("New", False, "of others")
    assert stored["trigger"]["keywords"] == ["x"]
    assert "openingDm" not in stored


def test_what_is_refused_comes_back_with_what_is_wrong(db: Db, visitor: Client) -> None:
    wrong = {"name": "", "mainDm.links": "Shop | https://a.example\nB | ftp://b", "type": "x"}
    response = visitor.post(NEW, {**FILLED, **wrong, "openingDm.text": "", "openingDm.button": "!"})
    assert response.status_code == 400
    assert db["automations"].count_documents({}) == 0
    page = html.unescape(response.text)
    assert "Correct 4 fields" in page
    assert "Line 2: Enter an http or https URL." in page
    assert "This field may not be blank." in page
    assert "'button' needs a text." in page
    typed = read_form(response.text)
    assert typed["mainDm.links"] == wrong["mainDm.links"]
    assert typed["openingDm.button"] == "!"


def test_what_people_typed_is_escaped_and_a_field_that_nobody_knows_named(visitor: Client) -> None:
    nasty = '"><script>alert(1)</script>'
    form = {**FILLED, "name": nasty, "mainDm.text": nasty, "accountId": "", "totalRuns": "7"}
    response = visitor.post(NEW, form)
    assert response.status_code == 400
    assert "<script>alert" not in response.text
    assert "'totalRuns' is set by the server." in html.unescape(response.text)


def test_errors_find_their_fields() -> None:
    errors = {
        "name": ["a"], "trigger": {"keywords": {0: ["b"]}, "match": ["c"]},
        "mainDm": {"links": [{}, {"url": ["d"]}], "text": ["e"]}, "x": ["f"],
    }  # fmt: skip
    assert flatten_errors(errors) == {
        "name": "a", "trigger.keywords": "Line 1: b", "trigger.match": "c",
        "mainDm.links": "Line 2: d", "mainDm.text": "e", "x": "f",
    }  # fmt: skip

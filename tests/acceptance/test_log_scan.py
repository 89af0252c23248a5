"""Nothing that people wrote and nothing that opens a door is in any log line, page or trace.

Real processes with marked texts and secrets: a web server, a worker, and Meta's side, which quotes
back what it is sent. Everything that they print is kept and searched.
"""

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pytest
from pymongo.database import Database

from automations.accounts.accounts import add_account
from automations.accounts.encryption import make_key
from automations.auth.tokens import create_token, hash_secret
from automations.demo.sandbox import Fault, Sandbox
from automations.demo.sandbox.http_server import Answer, HttpServer, Request
from tests.support.processes import build_environment, running
from tests.support.waiting import wait_until
from tests.support.web_server import WebServer
from tests.support.webhook_cases import TYPES, build_automation, sign

ACCOUNTS = tuple(f"1784140000000000{number}" for number in range(1, 5))
APP_SECRET = "marker-app-secret"
# None may appear; each is in what the processes read, store, send or are told.
TEXTS = {
    "comment": "marker-comment link",
    "message": "marker-message link",
    "username": "marker.username",
    "public": "marker-public-reply",
    "opening": "marker-opening",
    "button": "marker-button",
    "main": "marker-main",
    "broken": "marker-broken-element",
    "raw": "marker-raw-body",
    "header": "marker-header",
}
LONG_LINKS = [
    {"title": TEXTS["button"], "url": f"https://{TEXTS['main']}.example/{'x' * 1000}"}
] * 4
SECRETS = {
    "DJANGO_SECRET_KEY": "marker-django-secret-key",
    "INSTAGRAM_APP_SECRET": APP_SECRET,
    "INSTAGRAM_VERIFY_TOKEN": "marker-verify-token",
}


class QuotingMeta(HttpServer):
    """The sandbox, behind a server that quotes each call in an error when it is told to."""

    def __init__(self) -> None:
        super().__init__(self._quote)
        self.sandbox = Sandbox(app_secret=APP_SECRET)
        self.quotes: list[Callable[[Request], Answer]] = []
        self.quoted = 0

    def __enter__(self) -> Self:
        self.sandbox.__enter__()
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.sandbox.__exit__()

    def _quote(self, request: Request) -> Answer | None:
        if self.quotes:
            self.quoted += 1
            return self.quotes.pop(0)(request)
        return self.sandbox.handle(request)


def quote(request: Request) -> str:
    return f"{request.headers.get('authorization')} {request.body.decode()} {request.target}"


def refuse(status: int, **error: Any) -> Callable[[Request], Answer]:
    def answer(request: Request) -> Answer:
        said = quote(request)
        words = {"message": said, "type": said, "fbtrace_id": said, "error_user_msg": said}
        return Answer(status, {"error": words | error})

    return answer


QUOTES: tuple[Callable[[Request], Answer], ...] = (
    refuse(400, code=100, error_subcode=2534014),
    refuse(400, code=100),
    refuse(500, code=2),
    refuse(503, code="marker-code", is_transient="marker"),
    lambda request: Answer(500, quote(request)),
    lambda request: Answer(200, quote(request)),
    lambda request: Answer(302, {}, {"Location": f"http://127.0.0.1:1/?{quote(request)[:60]}"}),
)


@pytest.fixture
def meta() -> Iterator[QuotingMeta]:
    with QuotingMeta() as meta:
        yield meta


def prepare(db: Database[dict[str, Any]], meta: QuotingMeta) -> list[str]:
    at = datetime.now(UTC)
    tokens = [f"IGAAmarkertoken{account_id}" for account_id in ACCOUNTS]
    for account_id, token in zip(ACCOUNTS, tokens, strict=True):
        meta.sandbox.add_account(account_id, token)
        add_account(account_id, workspace_id="ws1", token=token, at=at)
        for_link = {"accountId": account_id, "trigger": {"keywords": ["link"]}}
        answers_comments = build_automation(
            f"a-{account_id}",
            commentReply={"texts": [TEXTS["public"]]},
            openingDm={"text": TEXTS["opening"], "button": TEXTS["button"]},
            mainDm={"text": TEXTS["main"]},
            **for_link,
        )
        # Of the last account no message can be built: its link is too long for Meta.
        links = LONG_LINKS * (account_id == ACCOUNTS[3])
        main = {"text": TEXTS["main"], "links": links}
        answers_messages = build_automation(
            f"d-{account_id}", type=TYPES[2], mainDm=main, **for_link
        )
        db["automations"].insert_many([answers_comments, answers_messages])
    return tokens


def converse(db: Database[dict[str, Any]], meta: QuotingMeta) -> None:
    """Let somebody have the whole of it, and others meet each error."""
    sandbox, account_id = meta.sandbox, ACCOUNTS[0]
    sandbox.comment(account_id, "9001", TEXTS["comment"], username=TEXTS["username"])
    wait_until(lambda: len(sandbox.journal("9001")) == 2, seconds=30)
    sandbox.tap("9001")
    wait_until(lambda: len(sandbox.journal("9001")) == 3, seconds=30)
    for number, one in enumerate(QUOTES):
        before = meta.quoted
        meta.quotes.append(one)
        sandbox.message(account_id, f"91{number:02}", TEXTS["message"])
        wait_until(lambda before=before: meta.quoted > before, seconds=30)
    for fault in ("500", "lost", "reset"):
        sandbox.faults.script(fault)
        sandbox.message(account_id, f"92{fault}", TEXTS["message"])
    with sandbox.use_world() as (world, _):
        world.accounts[ACCOUNTS[1]].token = None  # Meta quotes a token that it cannot read
    sandbox.message(ACCOUNTS[1], "9301", TEXTS["message"])
    wait_until(lambda: db["accounts"].find_one({"state": "token_dead"}) is not None, seconds=30)
    sandbox.faults.script("613")
    sandbox.message(ACCOUNTS[2], "9401", TEXTS["message"])
    wait_until(lambda: sandbox.faults.made[Fault.RATE], seconds=30)
    sandbox.message(ACCOUNTS[3], "9501", TEXTS["message"])
    failed = {"userId": "9501", "state": "failed"}
    wait_until(lambda: db["automation_triggers"].find_one(failed) is not None, seconds=30)


def break_things(db: Database[dict[str, Any]], web: WebServer, api_token: str) -> list[bytes]:
    comment = {"id": 5, "text": TEXTS["broken"], "from": TEXTS["broken"]}
    entry = {"id": ACCOUNTS[0], "changes": [{"field": "comments", "value": comment}]}
    bodies = (
        TEXTS["raw"].encode(),
        json.dumps({"object": "instagram", "entry": TEXTS["raw"]}).encode(),
        json.dumps({"object": "instagram", "entry": [entry]}).encode(),
    )
    answers = [
        ask(web, "POST", "/api/webhooks/instagram", body, **{"X-Hub-Signature-256": signature})
        for body in bodies
        for signature in (sign(body, APP_SECRET), TEXTS["header"])
    ]
    # A token whose document is broken: a bug of ours, answered by the page of errors.
    broken_token = "art_marker-broken-token"
    db["api_tokens"].insert_one({"_id": "broken", "hash": hash_secret(broken_token)})
    verify = f"hub.mode=subscribe&hub.challenge=1&hub.verify_token={TEXTS['header']}"
    for token in (api_token, broken_token, f"art_{TEXTS['header']}"):
        authorization = {"Authorization": f"Bearer {token}", "Cookie": f"sessionid={token}"}
        for path in ("automations", "automations/nobody", "accounts", "nothing"):
            url = f"/api/workspaces/ws1/{path}?marker={TEXTS['header']}"
            answers.append(ask(web, "GET", url, b"", **authorization))
        automation = json.dumps({"name": [TEXTS["raw"]], TEXTS["raw"]: 1}).encode()
        refused = ask(web, "POST", "/api/workspaces/ws1/automations", automation, **authorization)
        assert token not in refused.decode(errors="replace")
    answers.append(ask(web, "GET", f"/api/webhooks/instagram?{verify}", b""))
    assert any(answer.startswith(b"500") for answer in answers)
    return answers


def ask(web: WebServer, method: str, path: str, body: bytes, **headers: str) -> bytes:
    with closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)) as connection:
        connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return f"{answer.status} {answer.getheaders()}".encode() + answer.read()


def test_no_text_and_no_secret_is_in_what_the_processes_print(
    db: Database[dict[str, Any]], meta: QuotingMeta, tmp_path: Path, settings: Any
) -> None:
    key = make_key()
    settings.FIELD_ENCRYPTION_KEYS = (key,)
    secrets = {**SECRETS, "FIELD_ENCRYPTION_KEYS": key}
    access_tokens = prepare(db, meta)
    api_token, _ = create_token(workspace_id="ws1", at=datetime.now(UTC))
    environment = {**secrets, "INSTAGRAM_GRAPH_URL": meta.url}
    uri = settings.MONGODB_URI
    for_worker = build_environment(MONGODB_URI=uri, **environment)
    with running("run_worker", environment=for_worker) as worker:
        with WebServer(tmp_path, uri=uri, **environment) as web:
            meta.sandbox.set_webhook(f"{web.url}/api/webhooks/instagram", APP_SECRET)
            worker.wait_for_line("Sending is")
            converse(db, meta)
            answers = break_things(db, web, api_token)
            meta.sandbox.wait_for_webhooks()
        worker.stop(seconds=40)
    printed = web.read_log() + worker.output
    said = ("Automation run tracked", "is paused", "over Meta's rate limit", "could not be built")
    for one in (*said, "Traceback"):
        assert one in printed  # it was all there
    hidden = [*TEXTS.values(), *secrets.values(), *access_tokens, api_token, "marker-broken-token"]
    pages = b"".join(one for one in answers if not one.startswith(b"200"))
    found = [one for one in hidden if one in printed or one.encode() in pages]
    lines = [line[:300] for line in printed.splitlines() if any(one in line for one in found)]
    assert not found, "\n".join(lines)
    assert "marker" not in printed

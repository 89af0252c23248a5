"""The Graph client against a fake Meta, over real HTTP."""

import logging
import re
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import Mock
from urllib.parse import quote

import httpx2
import pytest

from automations.demo.sandbox import Sandbox
from automations.demo.sandbox.http_server import Answer, HttpServer, Request
from automations.instagram.access_tokens import AccessToken, Host
from automations.instagram.graph import GraphClient
from automations.instagram.graph_errors import ERROR_CLASSES, ErrorClass, GraphError
from automations.instagram.usage import UsageBoard, read_retry_after

ACCOUNT, PERSON = "17841400000000001", "5550001"
SECRET = "IGAA-very-secret"
TEXT = "a text that nobody else may read"


@pytest.fixture
def meta() -> Iterator[Sandbox]:
    with Sandbox(seed=1) as meta:
        meta.add_account(ACCOUNT, SECRET)
        yield meta


@pytest.fixture
def client(meta: Sandbox) -> Iterator[GraphClient]:
    with GraphClient(meta.url, timeout_seconds=2) as client:
        yield client


def catch(call: Callable[[], object]) -> GraphError:
    with pytest.raises(GraphError) as caught:
        call()
    return caught.value


class Stub(HttpServer):
    """A server whose answers a test gives; it keeps the requests."""

    def __init__(self, *answers: Answer | None) -> None:
        super().__init__(self._give)
        self.requests: list[Request] = []
        self._answers = list(answers)
        self._lock = threading.Lock()

    def _give(self, request: Request) -> Answer | None:
        with self._lock:
            self.requests.append(request)
            return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def send(client: GraphClient, text: str = TEXT, *, token: str = SECRET) -> Any:
    return client.send_message(ACCOUNT, PERSON, {"text": text}, token=token)


@contextmanager
def stubbed(*answers: Answer | None) -> Iterator[tuple[Stub, GraphClient]]:
    with Stub(*answers) as stub, GraphClient(stub.url, timeout_seconds=1) as client:
        yield stub, client


def send_to(answer: Answer | None) -> GraphError:
    with stubbed(answer) as (_, client):
        return catch(lambda: send(client))


class TestCalls:
    def test_a_message_and_replies(self, meta: Sandbox, client: GraphClient) -> None:
        comment_id = meta.comment(ACCOUNT, PERSON, "link")
        meta.message(ACCOUNT, PERSON, "hi")
        message = {"text": "Grüße 💛"}
        mids = [
            client.reply_privately(ACCOUNT, comment_id, message, token=SECRET),
            client.send_message(ACCOUNT, PERSON, message, token=SECRET),
            client.reply_publicly(comment_id, "Sent!", token=SECRET),
        ]
        received = meta.journal(PERSON)
        assert [one.message_id for one in received] == mids
        assert [(one.kind, one.text) for one in received] == [
            ("private_reply", "Grüße 💛"), ("dm", "Grüße 💛"), ("public_reply", "Sent!"),
        ]  # fmt: skip
        assert received[0].comment_id == comment_id

    def test_a_follow_check_without_the_field_is_unknown(self) -> None:
        with stubbed(Answer(200, {"id": PERSON})) as (_stub, client):
            assert client.is_following(PERSON, token=SECRET) is None

    @pytest.mark.parametrize(
        "hostile", ["@evil.example/", "//evil.example", "\\\\evil", "http://evil.example/", "?a=#",
                    "1/../me?x=#é"],
    )  # fmt: skip
    def test_no_id_leads_out_of_its_path(self, hostile: str) -> None:
        with stubbed(Answer(200, {"id": "1"})) as (stub, client):
            client.reply_publicly(hostile, "text", token=SECRET)
            client.send_message(hostile, hostile, {"text": TEXT}, token=SECRET)
            client.reply_privately(hostile, hostile, {"text": TEXT}, token=SECRET)
            client.is_following(hostile, token=SECRET)
        assert len(stub.requests) == 4
        assert stub.requests[0].target == f"/{quote(hostile, safe='')}/replies"
        assert all(re.match(r"/[^/@?#\\]+(/|\?fields=)\w+$", one.target) for one in stub.requests)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_no_redirect_is_followed(self, status: int) -> None:
        with Stub(Answer(200, {"id": "1"})) as other:
            headers = {"Location": f"{other.url}/elsewhere"}
            error = send_to(Answer(status, {}, headers))
        assert error.classification is ErrorClass.CONFIGURATION
        assert other.requests == []

    @pytest.mark.parametrize("url", ["http://graph.instagram.com", "ftp://a", "https://a@b", "x"])
    def test_tokens_go_nowhere_in_clear(self, url: str) -> None:
        with pytest.raises(ValueError, match="INSTAGRAM_GRAPH_URL cannot be called"):
            GraphClient(url)


class TestErrors:
    @pytest.mark.parametrize(("row", "expected"), ERROR_CLASSES.items())
    def test_every_row_over_http(self, row: tuple[int, int | None], expected: ErrorClass) -> None:
        code, subcode = row
        body = {"error": {"message": f"no {SECRET}", "code": code, "error_subcode": subcode}}
        error = send_to(Answer(400, body))
        assert (error.classification, error.code, error.subcode) == (expected, code, subcode)
        assert SECRET not in str(error)

    def test_an_account_over_its_limit_is_told_how_long(self) -> None:
        usage = '{"1": [{"type": "messenger", "estimated_time_to_regain_access": 3}]}'
        headers = {"X-Business-Use-Case-Usage": usage, "Retry-After": "20"}
        error = send_to(Answer(400, {"error": {"code": 613}}, headers))
        assert (error.classification, error.retry_after) == (ErrorClass.RATE, 180.0)

    @pytest.mark.parametrize(
        ("retry_after", "minutes", "seconds"),
        [
            ("110000000", "0", 3600.0),
            ("0", "1e300", 3600.0),
            ("9" * 300, "-5", 3600.0),
            ("Wed, 01 May 2030 00:00:00 GMT", "true", 3600.0),
            ("Sun, 29 Nov 2026 08:02:00 GMT", '"9"', 120.0),
            ("Sun, 29 Nov 2026 07:59:00 GMT", "null", None),
            ("9" * 400, "9" * 400, None),
            *((text, "[]", None) for text in ("soon", "-5", "1.5", "5, 10", "1e9", "Wed, 99 Foo")),
        ],
    )
    def test_no_answer_stops_an_account_for_longer_than_an_hour(
        self, retry_after: str, minutes: str, seconds: float | None
    ) -> None:
        usage = f'{{"1": [{{"estimated_time_to_regain_access": {minutes}}}]}}'
        headers = {"X-Business-Use-Case-Usage": usage, "Retry-After": retry_after}
        dated = {"Date": "Sun, 29 Nov 2026 08:00:00 GMT", **headers}
        assert read_retry_after({name.lower(): text for name, text in dated.items()}) == seconds
        error = send_to(Answer(429, {"error": {"code": 2**63}}, headers))
        assert (error.classification, error.code) == (ErrorClass.RATE, None)
        assert (error.retry_after or 0) <= 3600
        with stubbed(Answer(200, {"message_id": "m"}, headers)) as (_stub, client):
            assert send(client) == "m"

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            (None, ErrorClass.UNKNOWN),  # closed without a word
            (Answer(200, [1]), ErrorClass.UNKNOWN),
            (Answer(200, "text"), ErrorClass.UNKNOWN),
            (Answer(500, {"error": {"code": 2, "is_transient": True}}), ErrorClass.UNKNOWN),
            (Answer(502, "bad gateway"), ErrorClass.UNKNOWN),
            (Answer(200, {"filler": "x" * 600_000}), ErrorClass.UNKNOWN),
            (Answer(200, {"error": {"code": 190}}), ErrorClass.TOKEN_DEAD),
        ],
    )
    def test_what_may_have_been_delivered_is_unknown_unless_it_says_not(
        self, answer: Answer | None, expected: ErrorClass
    ) -> None:
        assert send_to(answer).classification is expected

    def test_an_answer_in_drips_ends_in_time(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            is_over = threading.Event()

            def drip() -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
                    try:
                        while not is_over.wait(0.1):
                            connection.sendall(b" ")
                    except OSError:
                        pass

            thread = threading.Thread(target=drip)
            thread.start()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            started = time.monotonic()
            with GraphClient(url, timeout_seconds=0.5) as client:
                error = catch(lambda: send(client))
            is_over.set()
            thread.join()
        assert error.classification is ErrorClass.UNKNOWN
        assert time.monotonic() - started < 3

    @pytest.mark.parametrize("url", ["http://127.0.0.1:1", "https://nowhere.invalid"])
    def test_what_never_left_is_not_sent(self, url: str) -> None:
        with GraphClient(url, timeout_seconds=2) as client:
            error = catch(lambda: send(client))
        assert error.classification is ErrorClass.NOT_SENT

    @pytest.mark.parametrize("token", ["", "töken", "two\r\nlines"])
    def test_a_token_that_no_header_can_hold(self, client: GraphClient, token: str) -> None:
        error = catch(lambda: send(client, token=token))
        assert error.classification is ErrorClass.TOKEN_DEAD

    def test_a_timeout_must_stay_below_the_lease(self) -> None:
        with pytest.raises(ValueError, match="timeout_seconds"):
            GraphClient(timeout_seconds=20)


class TestSecrets:
    def test_the_token_is_in_its_header_alone_and_cookies_are_not_carried_over(self) -> None:
        cookie = {"Set-Cookie": "session=of-one-account; Path=/"}
        with stubbed(Answer(200, {"message_id": "m"}, cookie)) as (stub, client):
            for _ in range(2):
                send(client)
        for request in stub.requests:
            assert request.headers["authorization"] == f"Bearer {SECRET}"
            assert SECRET not in request.target + str(request.body)
        assert "cookie" not in stub.requests[1].headers

    @pytest.mark.parametrize("fault", ["500", "lost", "190", "613"])
    def test_no_log_and_no_trace_holds_a_token_or_a_text(
        self, meta: Sandbox, client: GraphClient, caplog: pytest.LogCaptureFixture, fault: str
    ) -> None:
        caplog.set_level(logging.DEBUG)
        meta.message(ACCOUNT, PERSON, "hi")
        meta.faults.script(fault)
        error = catch(lambda: send(client))
        told = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
        assert error.__context__ is None
        assert error.__cause__ is None
        for secret in (SECRET, TEXT, PERSON):
            assert secret not in told
            assert secret not in caplog.text


class TestHosts:
    @pytest.mark.parametrize(
        ("base_url", "host", "expected"),
        [
            ("", Host.INSTAGRAM, "https://graph.instagram.com"),
            ("https://graph.instagram.com", Host.INSTAGRAM, "https://graph.instagram.com"),
            (
                "https://graph.instagram.com/v26.0/",
                Host.FACEBOOK,
                "https://graph.facebook.com/v26.0",
            ),
            ("http://127.0.0.1:9/v26.0", Host.FACEBOOK, "http://127.0.0.1:9/v26.0"),
        ],
    )
    def test_a_call_goes_to_the_host_of_its_token(
        self, monkeypatch: pytest.MonkeyPatch, base_url: str, host: Host, expected: str
    ) -> None:
        token = AccessToken(SECRET, host=host)
        stream = Mock(side_effect=httpx2.ConnectError("no"))
        monkeypatch.setattr(httpx2.Client, "stream", stream)
        with GraphClient(base_url) as client:
            catch(lambda: client.reply_publicly("p", "text", token=token))
        [call] = stream.call_args_list
        assert call.args[1] == f"{expected}/p/replies"


class TestUsage:
    def test_an_account_knows_how_much_it_has_used(self) -> None:
        usage = {"X-Business-Use-Case-Usage": '{"1": [{"call_count": 91, "total_time": 3}]}'}
        with stubbed(Answer(200, {"message_id": "m"}, usage)) as (_stub, client):
            assert client.usage(ACCOUNT) == 0.0
            send(client)
            assert client.usage(ACCOUNT) == 0.91
            assert client.usage("another") == 0.0

    def test_an_error_tells_it_too(self) -> None:
        usage = {"X-App-Usage": '{"call_count": 120}'}
        with stubbed(Answer(400, {"error": {"code": 4}}, usage)) as (_stub, client):
            catch(lambda: send(client))
            assert client.usage("any account of the app") == 1.0

    @pytest.mark.parametrize(
        "value",
        ["nonsense", "[]", '{"1": 5}', '{"1": [{"call_count": "\xb9"}]}', '{"1": [[]]}', "{}"],
    )
    def test_what_cannot_be_read_changes_nothing(self, value: str) -> None:
        board = UsageBoard()
        board.note(ACCOUNT, {"x-business-use-case-usage": value}, at=0)
        assert board.read(ACCOUNT, at=1) == 0.0

    def test_an_hour_later_it_is_forgotten(self) -> None:
        board = UsageBoard()
        board.note(ACCOUNT, {"x-business-use-case-usage": '{"1": [{"call_count": 50}]}'}, at=0)
        assert board.read(ACCOUNT, at=3599) == 0.5
        assert board.read(ACCOUNT, at=3600) == 0.0

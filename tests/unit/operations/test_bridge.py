"""A request on its way from the ASGI server to Django's WSGI handler, and back."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

import pytest

from automations.operations import bridge
from automations.operations.bridge import Bridge, build_environ

LIMIT = 100
Headers = list[tuple[bytes, bytes]]
CHUNKED: Headers = [(b"transfer-encoding", b"chunked")]


class Done:
    """What granian returns where nothing has to be waited for."""

    def __await__(self) -> Iterator[None]:
        return iter(())


class Client:
    """One connection: what it sends comes part by part, and what it is answered is kept."""

    def __init__(self, *parts: bytes, headers: Headers = CHUNKED, is_cut_off: bool = False) -> None:
        self.headers = headers
        self.messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": part, "more_body": True} for part in parts
        ]
        if is_cut_off:
            self.messages.append({"type": "http.disconnect"})
        elif headers is CHUNKED:
            self.messages.append({"type": "http.request", "body": b"", "more_body": False})
        self.answers: list[dict[str, Any]] = []

    async def receive(self) -> Any:
        await asyncio.sleep(0 if self.messages else 60)  # it stalls
        return self.messages.pop(0)

    def send(self, message: Any) -> Any:
        self.answers.append(message)
        return Done()

    async def ask(self, served: Bridge, method: str = "POST") -> tuple[int, bytes]:
        await served(build_scope(self.headers, method=method), self.receive, self.send)
        return self.status, b"".join(one.get("body", b"") for one in self.answers)

    @property
    def status(self) -> int:
        return int(self.answers[0]["status"])


def build_scope(headers: Headers, **fields: Any) -> dict[str, Any]:
    return {
        "type": "http", "method": "POST", "raw_path": b"/", "query_string": b"", "scheme": "http",
        "server": ("127.0.0.1", "80"), "client": ("127.0.0.1", "1"), "http_version": "1.1",
        "headers": headers, **fields,
    }  # fmt: skip


def declare(length: int) -> Headers:
    return [(b"content-length", b"%d" % length)]


class Answer(list[bytes]):
    """What Django's handler returns."""

    streaming = False

    def close(self) -> None: ...


def echo(environ: dict[str, Any], start_response: Callable[..., None]) -> Answer:
    start_response("200 OK", [("X-Length", environ["CONTENT_LENGTH"])])
    return Answer([environ["wsgi.input"].read()])


@asynccontextmanager
async def serving(application: Any = echo, *, threads: int = 2) -> AsyncIterator[Bridge]:
    served = Bridge(application, threads=threads, most_bytes=LIMIT)
    events, said = asyncio.Queue[Any](), asyncio.Queue[Any]()
    living = asyncio.ensure_future(served({"type": "lifespan"}, events.get, said.put))
    events.put_nowait({"type": "lifespan.startup"})
    await said.get()
    yield served
    events.put_nowait({"type": "lifespan.shutdown"})
    await living


def in_loop(check: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(check)
    def run(**fixtures: Any) -> None:
        asyncio.run(asyncio.wait_for(check(**fixtures), 10))

    return run


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "_TICK_SECONDS", 0.01)
    for name in ("BODY_SECONDS", "REFUSED_SECONDS"):
        monkeypatch.setattr(bridge, name, 0.1)


@pytest.mark.parametrize("headers", [CHUNKED, declare(6)], ids=["chunked", "declared"])
@in_loop
async def test_a_body_is_handed_on_whole_and_with_its_length(headers: Headers) -> None:
    async with serving() as served:
        client = Client(b"abc", b"", b"def", headers=headers)
        assert await client.ask(served) == (200, b"abcdef")
        assert client.answers[0]["headers"] == [(b"X-Length", b"6")]


@pytest.mark.parametrize(
    ("build_client", "status"),
    [
        (lambda: Client(headers=declare(LIMIT + 1)), 413),
        (lambda: Client(*[b"x" * 60] * 3), 413),
        (lambda: Client(b"x", headers=declare(2)), 408),
        (lambda: Client(b"x", is_cut_off=True), 400),
    ],
    ids=["declared too long", "chunked too long", "stalled", "cut off"],
)
@in_loop
async def test_what_is_refused_never_reaches_the_application(
    build_client: Callable[[], Client], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    client = build_client()
    async with serving(application=None) as served:
        assert (await client.ask(served))[0] == status
        assert (b"Connection", b"close") in client.answers[0]["headers"]
        assert (served._held, served._reading) == (0, {})
    assert caplog.messages == [f"⚠️ POST /: {status}"]


@in_loop
async def test_the_oldest_unfinished_body_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "MOST_BYTES_HELD", 150)
    monkeypatch.setattr(bridge, "BODY_SECONDS", 60)
    async with serving() as served:
        slow = [Client(b"x" * 90, headers=declare(91)) for _ in range(3)]
        asked = [asyncio.ensure_future(one.ask(served)) for one in slow]
        await asyncio.wait(asked[:2])
        assert [one.status for one in slow[:2]] == [408, 408]
        assert await Client(b"y" * 50).ask(served) == (200, b"y" * 50)
        assert not asked[2].done()
        asked[2].cancel()


@in_loop
async def test_stalled_bodies_take_no_thread() -> None:
    async with serving(threads=1) as served:
        stalled = [Client(b"x", headers=declare(2)) for _ in range(50)]
        asked = [asyncio.ensure_future(one.ask(served)) for one in stalled]
        await asyncio.sleep(0.01)
        assert await Client(headers=[]).ask(served, "GET") == (200, b"")
        await asyncio.wait(asked)
        assert {one.status for one in stalled} == {408}


@in_loop
async def test_a_streamed_answer_comes_in_parts_and_stops_with_its_reader() -> None:
    closed, made = threading.Event(), list[bytes]()

    class Parts:
        close = staticmethod(closed.set)

        def __iter__(self) -> Iterator[bytes]:
            made.clear()
            for part in (b"", *[b"x"] * 1000):
                made.append(part)
                yield part

    def application(environ: Any, start_response: Callable[..., None]) -> Parts:
        start_response("200 OK", [])
        return Parts()

    async with serving(application) as served:
        whole = Client(headers=[])
        assert await whole.ask(served) == (200, b"x" * 1000)
        assert [one["more_body"] for one in whole.answers[-2:]] == [True, False]
        assert closed.is_set()
        closed.clear()
        await Client(headers=[], is_cut_off=True).ask(served)
        assert closed.is_set()
        assert len(made) < 1000


@in_loop
async def test_a_plain_list_is_an_answer_too() -> None:
    def application(environ: Any, start_response: Callable[..., None]) -> list[bytes]:
        start_response("200 OK", [])
        return [b"plain"]

    async with serving(application) as served:
        assert await Client(headers=[]).ask(served) == (200, b"plain")


@in_loop
async def test_the_age_is_that_of_the_oldest_request(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = threading.Event()

    def application(environ: Any, start_response: Callable[..., None]) -> Answer:
        ends.wait(5)
        return echo(environ, start_response)

    async with serving(application) as served:
        asked = asyncio.ensure_future(Client(b"x").ask(served))
        await asyncio.sleep(0.3)
        assert served.find_age() > 0.25
        ends.set()
        assert await asked == (200, b"x")
        monkeypatch.setattr(bridge, "_TICK_SECONDS", 60)
        await asyncio.sleep(0.3)
        assert served.find_age() > 0.25  # the loop does not come round


@in_loop
async def test_an_error_of_the_application_reaches_the_server() -> None:
    async with serving(application=None) as served:
        with pytest.raises(TypeError):
            await Client(b"x").ask(served)


def test_headers_become_what_wsgi_calls_them() -> None:
    headers = [
        (b"x-hub-signature-256", b"one"), (b"x_hub_signature_256", b"two"),
        (b"X_Hub-Signature_256", b"three"), (b"content_length", b"7"), (b"content-type", b"t/x"),
        (b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"accept", b"x"), (b"accept", b"\xe9"),
    ]  # fmt: skip
    environ = build_environ(build_scope(headers, raw_path=b"/%C3%A9/%00\xff"))
    assert {name: value for name, value in environ.items() if name.startswith("HTTP_")} == {
        "HTTP_X_HUB_SIGNATURE_256": "one", "HTTP_COOKIE": "a=1; b=2", "HTTP_ACCEPT": "x,\xe9",
    }  # fmt: skip
    assert environ["CONTENT_TYPE"] == "t/x"
    assert "CONTENT_LENGTH" not in environ
    assert environ["PATH_INFO"] == "/\xc3\xa9/\0\xff"

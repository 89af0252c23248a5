"""Django's WSGI application behind an ASGI server, which reads bodies before a thread is taken.

granian's WSGI mode answers before it has read a body, which resets a proxy's connection, and has no
time limit for bodies, so that stalled ones take every thread for good.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import closing, suppress
from functools import lru_cache
from io import BytesIO
from queue import SimpleQueue
from typing import Any, cast
from urllib.parse import unquote_to_bytes
from wsgiref.util import FileWrapper

from automations import metrics

refusals = logging.getLogger("automations.refusals")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_SECONDS = 10.0
# Of all requests that are not answered yet; past it the oldest unfinished body is given up.
MOST_BYTES_HELD = 64 * 1024 * 1024
# A refused body is read on for so long: a client that still sends would see a reset, no answer.
REFUSED_SECONDS = 1.0
_TICK_SECONDS = 0.5


class Bridge:
    """An ASGI application that calls a WSGI one in its own threads."""

    def __init__(self, application: Any, *, threads: int, most_bytes: int) -> None:
        self._application = application
        self._thread_count = threads
        self._most_bytes = most_bytes
        self._jobs: SimpleQueue[tuple[asyncio.Future[Any], Callable[..., Any], Any]] = SimpleQueue()
        self._finished: deque[asyncio.Future[None]] = deque()
        self._held = 0
        self._ticked_at = time.monotonic()
        # Since when each thread answers a request.
        self._busy: dict[int, float] = {}
        # Unfinished bodies with their last moments, the oldest first.
        self._reading: dict[asyncio.Task[None], tuple[float, bytearray]] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        self._settle_finished()
        environ = build_environ(scope)
        body = bytearray()
        try:
            if refusal := await self._read_body(environ, body, receive):
                await self._refuse(refusal, environ, receive, send)
                return
            response = await self._run(self._call, environ, send)
        finally:
            self._held -= len(body)
        if response is not None:
            await self._stream(response, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._loop = asyncio.get_running_loop()
        for _ in range(self._thread_count):
            threading.Thread(target=self._work, name="request", daemon=True).start()
        await send({"type": "lifespan.startup.complete"})
        ticking = asyncio.ensure_future(self._tick())
        await receive()
        ticking.cancel()
        self._settle_finished()
        await send({"type": "lifespan.shutdown.complete"})

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self._ticked_at = time.monotonic()
            self._settle_finished()
            while self._reading and next(iter(self._reading.values()))[0] < self._loop.time():
                self._give_up_oldest()

    def find_age(self) -> float:
        """Return for how many seconds the oldest request, or the event loop, has been stuck."""
        return time.monotonic() - min([self._ticked_at, *self._busy.values()])

    def _settle_finished(self) -> None:
        while self._finished:
            future = self._finished.popleft()
            _settle(future, future.set_result, None)

    async def _read_body(
        self, environ: dict[str, Any], body: bytearray, receive: Receive
    ) -> int | None:
        """Read the whole body into the environ; return the status that refuses it, if one does."""
        is_chunked = environ.pop("HTTP_TRANSFER_ENCODING", None) is not None
        length = None if is_chunked else int(environ.get("CONTENT_LENGTH", 0))
        if length is not None and length > self._most_bytes:
            return 413
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._reading[task] = self._loop.time() + BODY_SECONDS, body
        try:
            more = length != 0
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return 400
                body += message["body"]
                self._held += len(message["body"])
                if len(body) > self._most_bytes:
                    return 413
                more = message["more_body"] and len(body) != length
                if self._held > MOST_BYTES_HELD:
                    self._give_up_oldest()
            if task not in self._reading:
                return 408
        except asyncio.CancelledError:
            if task in self._reading:
                raise
            task.uncancel()
            return 408
        finally:
            self._reading.pop(task, None)
        environ["CONTENT_LENGTH"] = str(len(body))
        environ["wsgi.input"] = BytesIO(body)
        return None

    def _give_up_oldest(self) -> None:
        if self._reading:
            task = next(iter(self._reading))
            _, body = self._reading.pop(task)
            self._held -= len(body)
            body.clear()
            task.cancel()

    async def _refuse(
        self, status: int, environ: dict[str, Any], receive: Receive, send: Send
    ) -> None:
        metrics.REQUESTS.labels("none", "other", "4xx").inc()
        refusals.warning("⚠️ %s %s: %d", environ["REQUEST_METHOD"], environ["PATH_INFO"], status)
        text = _REFUSALS[status] % {"most": self._most_bytes}
        headers = [("Content-Type", "text/plain"), ("Connection", "close")]
        await send(_start(status, [*headers, ("Content-Length", str(len(text)))]))
        await send({"type": "http.response.body", "body": text.encode()})
        with suppress(TimeoutError):
            async with asyncio.timeout(REFUSED_SECONDS):
                while (await receive()).get("more_body"):
                    pass

    def _call(self, environ: dict[str, Any], send: Send) -> Any:
        """Answer in a thread; return a response that has to be streamed."""
        start: list[Message] = []

        def start_response(status: str, headers: list[tuple[str, str]]) -> None:
            start.append(_start(int(status[:3]), headers))

        response = self._application(environ, start_response)
        send(start[0])  # neither has to be awaited: granian hands them over at once
        if getattr(response, "streaming", True):
            return response
        with closing(response):
            send({"type": "http.response.body", "body": b"".join(response)})
        return None

    async def _stream(self, response: Any, receive: Receive, send: Send) -> None:
        """Send part by part; no thread waits for a client that reads slowly."""
        end = asyncio.ensure_future(_wait_for_disconnect(receive))
        parts: Iterator[bytes] = iter(response)
        part: bytes | None = b""
        try:
            while part is not None and not end.done():
                # In a list: None would settle the future late.
                [part] = await self._run(lambda: [next(parts, None)])
                message = {"type": "http.response.body", "body": part or b""}
                await send({**message, "more_body": part is not None})
        finally:
            end.cancel()
            if close := getattr(response, "close", None):  # a plain list has none
                await self._run(close)

    def _run(self, call: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        future = self._loop.create_future()
        self._jobs.put((future, call, arguments))
        return future

    def _work(self) -> None:
        thread = threading.get_ident()
        while True:
            future, call, arguments = self._jobs.get()
            self._busy[thread] = time.monotonic()
            settle: Callable[[Any], None] = future.set_result
            try:
                outcome = call(*arguments)
            except BaseException as error:  # noqa: BLE001 - it is raised where the future is awaited
                settle, outcome = future.set_exception, error
            del self._busy[thread]
            if outcome is None:  # it is answered, and the loop need not be woken for it
                self._finished.append(future)
            else:
                self._loop.call_soon_threadsafe(_settle, future, settle, outcome)


_REFUSALS = {
    400: "The body did not arrive",
    408: "The body did not arrive in time",
    413: "Body over %(most)d bytes",
}


def _settle(future: asyncio.Future[Any], settle: Callable[[Any], None], outcome: Any) -> None:
    if not future.done():
        settle(outcome)


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _start(status: int, headers: list[tuple[str, str]]) -> Message:
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {"type": "http.response.start", "status": status, "headers": encoded}


def build_environ(scope: Message) -> dict[str, Any]:
    """Return what WSGI calls a request, without its body."""
    raw_path = scope["raw_path"]
    path = unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path
    environ = {
        "REQUEST_METHOD": scope["method"],
        "PATH_INFO": path.decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": scope["server"][0],
        "SERVER_PORT": scope["server"][1],
        "REMOTE_ADDR": scope["client"][0],
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": BytesIO(),
        "wsgi.file_wrapper": lambda file, _: FileWrapper(file, 64 * 1024),
    }
    for name, value in scope["headers"]:
        if (key := _build_key(name)) is None:
            continue
        text = value.decode("latin-1")
        if key in environ:
            text = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{text}"
        environ[key] = text
    return environ


@lru_cache(maxsize=1024)
def _build_key(name: bytes) -> str | None:
    """Return the name in the environ; None for one with `_`, which would pass as one with `-`."""
    if b"_" in name:
        return None
    key = name.decode("latin-1").upper().replace("-", "_")
    return key if key in ("CONTENT_LENGTH", "CONTENT_TYPE") else f"HTTP_{key}"

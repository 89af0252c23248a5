"""A small JSON server on 127.0.0.1 that keeps connections open."""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any, NamedTuple, Self

import orjson

_MOST_BODY = 1024 * 1024


class Request(NamedTuple):
    method: str
    target: str
    headers: Mapping[str, str]  # names are lower case
    body: bytes


class Answer(NamedTuple):
    status: int
    body: Any  # sent as JSON
    headers: Mapping[str, str] = {}


class HttpServer(ThreadingTCPServer):  # http.server's own looks its host up in the DNS
    """Calls `handler` from a thread per connection, on any free port.

    Where the handler returns None, the connection is closed without an answer.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, handler: Callable[[Request], Answer | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.handler = handler
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.is_stopped = False
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_stopped = True  # closes kept connections at their next request
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Connection(BaseHTTPRequestHandler):
    server: HttpServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer leaves in one packet

    def handle(self) -> None:
        with suppress(OSError):  # the client left
            super().handle()

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        answer = None
        if 0 <= length <= _MOST_BODY and not self.server.is_stopped:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(length)
            answer = self.server.handler(Request(self.command, self.path, headers, body))
        if answer is None:
            self.close_connection = True
            return
        content = orjson.dumps(answer.body)
        self.send_response(answer.status)
        own = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        for name, value in {**answer.headers, **own}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _answer  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        pass

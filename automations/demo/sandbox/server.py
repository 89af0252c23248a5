"""HTTP/1.1 with connections that are kept open: as little as the fake needs, and cheap.

http.server spends most of a small request on its mail parser; a chaos run makes tens of thousands.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import orjson

_MOST_BODY = 1024 * 1024
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 500: "Internal Server Error"}


class Request(NamedTuple):
    """A request; header names are lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    """An answer in JSON."""

    status: int
    body: Any
    headers: Mapping[str, str] = {}


# Answers a request; None closes the connection without a word.
Handler = Callable[[Request], Answer | None]


class HttpServer:
    """A server on 127.0.0.1 with a thread for each connection; `port` 0 is any free one."""

    def __init__(self, handle: Handler, *, port: int = 0) -> None:
        self._server = _Server(("127.0.0.1", port), handle)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="sandbox", daemon=True
        )

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port and every connection."""
        self._server.shutdown()
        self._server.server_close()
        self._server.close_connections()
        self._thread.join()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handle: Handler) -> None:
        super().__init__(address, _Connection)
        self.handle = handle
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def note_open(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)

    def note_closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    def close_connections(self) -> None:
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Connection(socketserver.StreamRequestHandler):
    server: _Server
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.note_open(self.request)

    def finish(self) -> None:
        self.server.note_closed(self.request)
        with suppress(OSError):
            super().finish()

    def handle(self) -> None:
        # A client may go away at any time.
        with suppress(OSError):
            while (request := self._read()) is not None:
                answer = self.server.handle(request)
                if answer is None:
                    return
                self.wfile.write(_write_answer(answer))

    def _read(self) -> Request | None:
        parts = self.rfile.readline(8192).decode("latin-1").split()
        if len(parts) != 3:
            return None
        headers: dict[str, str] = {}
        while line := self.rfile.readline(8192).strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length") or 0)
        if not 0 <= length <= _MOST_BODY:
            return None
        return Request(parts[0], parts[1], headers, self.rfile.read(length))


def _write_answer(answer: Answer) -> bytes:
    body = orjson.dumps(answer.body)
    lines = [f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body

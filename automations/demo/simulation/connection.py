"""A keep-alive HTTP/1.1 connection that only posts.

http.client spends 120 microseconds of CPU on a small POST, this 35: on a machine shared with the
server that is being measured, the difference is the server's.
"""

from __future__ import annotations

import socket
import ssl
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit


class Answer(NamedTuple):
    """What came back: the status code, and Retry-After in seconds (0 when absent)."""

    status: int
    retry_after: float


class Connection:
    """One connection to one URL, opened when needed and again after it broke; not thread safe."""

    def __init__(self, url: str, *, timeout: float) -> None:
        self._url = _split_url(url)
        self._timeout = timeout
        self._socket: socket.socket | None = None
        path = self._url.path or "/"
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._url.netloc}\r\n"
            "User-Agent: facebookexternalua\r\nContent-Type: application/json\r\n"
        ).encode("ascii")

    def post(self, body: bytes, *, signature: str) -> Answer:
        """Send the body and return the answer. Raises OSError when there is none."""
        request = (
            self._head
            + (f"X-Hub-Signature-256: {signature}\r\nContent-Length: {len(body)}\r\n\r\n").encode(
                "ascii"
            )
            + body
        )
        if self._socket is not None:
            try:
                return self._exchange(self._socket, request)
            except TimeoutError:
                self.close()
                raise
            except OSError:
                # A server may close an idle connection at any time; a new one tells whether it
                # still lives. Should it have handled the body, this is a redelivery.
                self.close()
        try:
            self._socket = self._open()
            return self._exchange(self._socket, request)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next `post` opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self) -> socket.socket:
        host = self._url.hostname or ""
        is_tls = self._url.scheme == "https"
        address = (host, self._url.port or (443 if is_tls else 80))
        connected = socket.create_connection(address, timeout=self._timeout)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if is_tls:
            return ssl.create_default_context().wrap_socket(connected, server_hostname=host)
        return connected

    def _exchange(self, connected: socket.socket, request: bytes) -> Answer:
        connected.sendall(request)
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            chunk = connected.recv(65536)
            if not chunk:
                raise ConnectionResetError("the server closed the connection without an answer")
            data += chunk
        lines = data[:end].lower().split(b"\r\n")
        headers = dict(line.split(b":", 1) for line in lines[1:] if b":" in line)
        length = headers.get(b"content-length")
        missing = int(length) - (len(data) - end - 4) if length is not None else -1
        while missing > 0:
            chunk = connected.recv(65536)
            if not chunk:
                raise ConnectionResetError("the server closed the connection in mid-answer")
            missing -= len(chunk)
        if missing < 0 or headers.get(b"connection", b"").strip() == b"close":
            # Without a length the end of the answer is not looked for: a new connection is cheap.
            self.close()
        retry_after = headers.get(b"retry-after", b"").strip()
        return Answer(
            status=int(lines[0].split(b" ", 2)[1]),
            retry_after=float(retry_after) if retry_after.isdigit() else 0.0,
        )


def _split_url(url: str) -> SplitResult:
    """Return the parts of an http(s) URL; raises ValueError for anything else."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not a URL; use one like http://127.0.0.1:8000.")
    return parts

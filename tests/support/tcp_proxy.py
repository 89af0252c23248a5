"""A wire between a client and a server on this machine, which can be slow, cut, or dead."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_CHUNK = 65536
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: the close is a reset


class TcpProxy:
    """Listens on `port` and passes on to `target_port`, as `mode` says. Use it as a context.

    Modes: `pass`; `slow`, each piece comes `delay` later; `hold`, nothing comes until the mode
    ends, and then all of it does, as over a network that was away; `cut`, half of the next reply
    comes and then a reset; `lose reply`, the request arrives and its reply is a reset; `half open`,
    the server's side is gone and the client is not told; `refuse`, new connections are reset.
    """

    def __init__(self, target_port: int, *, delay: float = 0.25) -> None:
        self.mode = "pass"
        # Called with each piece of a request before it is passed on.
        self.on_request: Callable[[bytes], None] = lambda _: None
        self._target_port = target_port
        self._delay = delay
        self._is_changed = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: set[socket.socket] = set()
        self._is_closed = False

    def __enter__(self) -> TcpProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closed = True
        self._set_mode("pass")
        self._listener.close()
        for one in list(self._sockets):
            _reset(one)

    @contextmanager
    def acting(self, mode: str) -> Iterator[None]:
        self._set_mode(mode)
        try:
            yield
        finally:
            self._set_mode("pass")

    def _set_mode(self, mode: str) -> None:
        with self._is_changed:
            self.mode = mode
            self._is_changed.notify_all()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.mode == "refuse":
                _reset(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target_port), timeout=5)
            except OSError:
                _reset(client)
                continue
            server.settimeout(None)
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets |= {client, server}
            for source, sink, is_reply in ((client, server, False), (server, client, True)):
                threading.Thread(
                    target=self._pump, args=(source, sink), kwargs={"is_reply": is_reply},
                    daemon=True,
                ).start()  # fmt: skip

    def _pump(self, source: socket.socket, sink: socket.socket, *, is_reply: bool) -> None:
        is_told = True
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                if not is_reply:
                    self.on_request(data)
                if self.mode == "slow":
                    time.sleep(self._delay)
                with self._is_changed:
                    self._is_changed.wait_for(lambda: self.mode != "hold")
                if is_reply and self.mode in ("cut", "lose reply"):
                    sink.sendall(data[: len(data) // 2 if self.mode == "cut" else 0])
                    break
                if self.mode == "half open" and not is_reply:
                    _reset(sink)
                    is_told = False
                    break
                sink.sendall(data)
        if is_told and not (is_reply and self.mode == "half open"):
            _reset(sink)
            _reset(source)
            self._sockets -= {source, sink}


def _reset(one: socket.socket) -> None:
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        one.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        one.close()

"""A load generator small enough to leave the two cores to what is measured.

One thread, one epoll, whole requests built and signed beforehand: some 20 microseconds a request,
where http.client takes 120. `python -m tests.benchmarks` prints its ceiling in every run.
"""

import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import NamedTuple

_RECEIVE_BYTES = 1 << 18
_DRAIN_SECONDS = 60.0
_HEAD_END = b"\r\n\r\n"


class Answer(NamedTuple):
    """What came back for request `number`; status 0 when the connection broke."""

    number: int
    status: int
    seconds: float


@dataclass(eq=False)
class Lane:
    """Requests for one port over keep-alive connections.

    Each connection has at most one request under way. Without `due` a connection sends as soon as
    it is free (closed loop); with it, request i waits for `due[i]` seconds after the start, and
    its latency counts from then, also when no connection was free. `is_endless` starts over at
    the end.
    """

    port: int
    requests: Sequence[bytes]
    _: KW_ONLY
    connections: int
    due: Sequence[float] | None = None
    is_endless: bool = False
    answers: list[Answer] = field(default_factory=list)
    seconds: float = 0.0  # from the start to the last answer
    next: int = 0
    free: deque["_Connection"] = field(default_factory=deque)

    def take(self, elapsed: float) -> int | None:
        if self.next >= len(self.requests):
            if not self.is_endless:
                return None
            self.next = 0
        if self.due is not None and self.due[self.next] > elapsed:
            return None
        self.next += 1
        return self.next - 1

    @property
    def next_due(self) -> float | None:
        if self.due is None or self.next >= len(self.requests):
            return None
        return self.due[self.next]

    def list_acknowledged(self) -> list[int]:
        return [answer.number for answer in self.answers if answer.status == 200]

    def list_refused(self) -> list[int]:
        """Return the indices answered otherwise, or not at all."""
        return [answer.number for answer in self.answers if answer.status != 200]


class _Connection:
    __slots__ = ("buffer", "index", "is_blocked", "lane", "need", "out", "since", "socket")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.index = -1
        self.out: memoryview | None = None
        self.is_blocked = False
        self.buffer = b""
        self.need = 0
        self.since = 0.0
        self.socket = self.connect()

    def connect(self) -> socket.socket:
        self.socket = socket.create_connection(("127.0.0.1", self.lane.port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        return self.socket


class _Loop:
    def __init__(self, lanes: Sequence[Lane], seconds: float) -> None:
        self.lanes = lanes
        self.poller = select.epoll()
        self.by_fd: dict[int, _Connection] = {}
        self.under_way = 0
        for lane in lanes:
            lane.free = deque(_Connection(lane) for _ in range(lane.connections))
            for connection in lane.free:
                self.register(connection)
        self.started = time.perf_counter()
        self.stop_at = self.started + seconds

    def register(self, connection: _Connection) -> None:
        fd = connection.socket.fileno()
        self.by_fd[fd] = connection
        self.poller.register(fd, select.EPOLLIN)

    def run(self) -> None:
        for lane in self.lanes:
            self.feed(lane, self.started)
        while True:
            now = time.perf_counter()
            if now >= self.stop_at and not self.under_way:
                break
            if now > self.stop_at + _DRAIN_SECONDS:
                raise TimeoutError(f"{self.under_way} requests were never answered")
            due = [lane.next_due for lane in self.lanes if lane.free and now < self.stop_at]
            waits = [moment + self.started - now for moment in due if moment is not None]
            if not waits and not self.under_way:
                break
            for fd, mask in self.poller.poll(max(0.0, min(waits, default=1.0))):
                connection = self.by_fd[fd]
                if mask & select.EPOLLOUT:
                    self.send(connection)
                if mask & ~select.EPOLLOUT:
                    self.receive(connection)
            for lane in self.lanes:
                if lane.free and lane.due is not None:
                    self.feed(lane, time.perf_counter())
        for connection in self.by_fd.values():
            connection.socket.close()
        self.poller.close()

    def feed(self, lane: Lane, now: float) -> None:
        while lane.free and now < self.stop_at:
            index = lane.take(now - self.started)
            if index is None:
                return
            connection = lane.free.popleft()
            connection.index = index
            connection.since = now if lane.due is None else self.started + lane.due[index]
            connection.out = memoryview(lane.requests[index])
            self.under_way += 1
            self.send(connection)

    def send(self, connection: _Connection) -> None:
        out = connection.out
        if out is None:
            return
        try:
            sent = connection.socket.send(out)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.break_off(connection)
            return
        connection.out = out[sent:] if sent < len(out) else None
        if connection.is_blocked != (connection.out is not None):
            connection.is_blocked = not connection.is_blocked
            wanted = select.EPOLLIN | (select.EPOLLOUT if connection.is_blocked else 0)
            self.poller.modify(connection.socket.fileno(), wanted)

    def receive(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.break_off(connection)
            return
        buffer = connection.buffer = connection.buffer + data if connection.buffer else data
        if not connection.need:
            end = buffer.find(_HEAD_END)
            if end < 0:
                return
            connection.need = end + 4 + _read_length(buffer[:end])
        if len(buffer) >= connection.need:
            self.finish(connection, int(buffer[9:12]))

    def finish(self, connection: _Connection, status: int) -> None:
        now = time.perf_counter()
        lane = connection.lane
        lane.seconds = now - self.started
        lane.answers.append(Answer(connection.index, status, now - connection.since))
        connection.buffer, connection.need, connection.index = b"", 0, -1
        self.under_way -= 1
        lane.free.append(connection)
        self.feed(lane, now)

    def break_off(self, connection: _Connection) -> None:
        """The server closed: what was under way is not acknowledged; go on with a new one."""
        fd = connection.socket.fileno()
        self.poller.unregister(fd)
        del self.by_fd[fd]
        connection.socket.close()
        connection.connect()
        self.register(connection)
        connection.out, connection.is_blocked = None, False
        if connection.index >= 0:
            self.finish(connection, 0)


def _read_length(head: bytes) -> int:
    lower = head.lower()
    start = lower.find(b"content-length:")
    if start < 0:
        raise ValueError(f"an answer without Content-Length: {head[:100]!r}")
    end = lower.find(b"\r\n", start)
    return int(lower[start + 15 : end if end > 0 else None])


def run_lanes(lanes: Sequence[Lane], *, seconds: float) -> None:
    """Send until `seconds` are over or nothing is left, and wait for what is under way."""
    _Loop(lanes, seconds).run()

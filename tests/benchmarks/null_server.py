"""A server that only reads a request and says 200: what the load generator itself can reach."""

import select
import socket
import sys

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nEVENT_RECEIVED"


def main() -> None:
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=256)
    listener.setblocking(False)
    poller = select.epoll()
    poller.register(listener, select.EPOLLIN)
    peers: dict[int, socket.socket] = {}
    left: dict[int, int] = {}
    while True:
        for fd, _ in poller.poll():
            if fd == listener.fileno():
                peer, _ = listener.accept()
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peers[peer.fileno()] = peer
                poller.register(peer, select.EPOLLIN)
                continue
            try:
                data = peers[fd].recv(1 << 18)
            except ConnectionResetError:
                data = b""
            if not data:
                poller.unregister(fd)
                peers.pop(fd).close()
                left.pop(fd, None)
                continue
            if fd not in left:
                head, _, body = data.partition(b"\r\n\r\n")
                start = head.find(b"Content-Length:")
                length = int(head[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
                left[fd] = length - len(body)
            else:
                left[fd] -= len(data)
            if left[fd] <= 0:
                del left[fd]
                peers[fd].send(_ANSWER)


if __name__ == "__main__":
    main()

"""Clients of HTTP for the benchmark of the server, in one thread, so that they take little of the processors that they share with it.

Requests are bytes that were prepared beforehand; of an answer only the status and the length are looked at.
"""

import selectors
import socket
import time

RECEIVE = 1 << 16


class Client:
    """A connection that is kept."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""

    def answer(self):
        """Reads what has come; the status once the answer is complete."""
        came = self.socket.recv(RECEIVE)
        if not came:
            raise ConnectionError("the server closed the connection")
        self.received += came
        head = self.received.find(b"\r\n\r\n")
        if head < 0:
            return None
        fields = self.received[:head].lower()
        at = fields.find(b"\r\ncontent-length:")
        if at < 0:
            raise ValueError("an answer without its length")
        length = int(fields[at + 17 :].split(b"\r\n", 1)[0])
        if len(self.received) < head + 4 + length:
            return None
        self.received = self.received[head + 4 + length :]
        return int(fields[9:12])

    def ask(self, request):
        """Sends a request and waits for its answer; the status."""
        self.socket.sendall(request)
        while (status := self.answer()) is None:
            pass
        return status


def post(path, kind, body):
    """The bytes of a request."""
    return b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (
        path.encode(), kind.encode(), len(body),
    ) + body


def flood(port, requests, count, clients):
    """Sends `count` of `requests`, again and again from the first, by several clients, each of which asks again once it has its
    answer. Seconds, seconds of processor time that the clients took, and how often each status came."""
    statuses, sent, waiting = {}, 0, 0
    with selectors.DefaultSelector() as selector:
        connections = [Client(port) for _ in range(clients)]
        begin, busy = time.perf_counter(), time.process_time()
        for client in connections:
            if sent == count:
                break
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.socket.sendall(requests[sent % len(requests)])
            sent, waiting = sent + 1, waiting + 1
        while waiting:
            for key, _ in selector.select():
                client = key.data
                status = client.answer()
                if status is None:
                    continue
                statuses[status] = statuses.get(status, 0) + 1
                if sent < count:
                    # The server reads while it works, so this never waits long.
                    client.socket.sendall(requests[sent % len(requests)])
                    sent += 1
                else:
                    selector.unregister(client.socket)
                    waiting -= 1
        seconds, busy = time.perf_counter() - begin, time.process_time() - busy
        for client in connections:
            client.socket.close()
    return seconds, busy, statuses

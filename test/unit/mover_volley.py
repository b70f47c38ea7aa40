"""Servers that no stand-in can be made to be: those that drip an answer for ever, and those that close what was kept open."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from socket import SHUT_RDWR, create_server, socket

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "k8s/mover"))

import volley
from lanes import Lanes
from volley import Answer, Late, Request, Volley
from web import retry_after

BODY = b"x" * 100
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + BODY
COUNT = 40

Talk = Callable[[socket, str], None]


@contextmanager
def server(talk: Talk) -> Iterator[int]:
    """Calls talk(connection, target) for each request; gives the port."""
    listener = create_server(("127.0.0.1", 0))

    def serve(connection: socket) -> None:
        with suppress(OSError), connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                while stream.readline() not in (b"\r\n", b""):
                    pass
                talk(connection, line.split()[1].decode())

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    with listener:
        yield listener.getsockname()[1]


def volley_to(port: int, taken: list[str]) -> Volley[str]:
    def connect(seconds: float) -> HTTPConnection:
        connection = HTTPConnection("127.0.0.1", port, timeout=seconds)
        connection.connect()
        return connection

    def take(item: str, answer: Answer) -> None:
        if bytes(answer.body) != BODY:
            sys.exit(f"{item}: {bytes(answer.body)!r}")
        taken.append(item)

    return Volley(connect, lambda item: Request("GET", item, {}, len(BODY)), take, threading.Event())


def check_drips() -> None:
    """The patience is with the answer, not with each piece of it."""
    drips = {
        "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        "a header": (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
        "a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"x"),
        "a trailer": (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n" + BODY + b"\r\n0\r\n",
            b"X: y\r\n",
        ),
    }
    for name, (start, drop) in drips.items():
        over = threading.Event()

        def talk(connection: socket, target: str, start: bytes = start, drop: bytes = drop) -> None:
            if target != "/3":
                connection.sendall(GOOD)
                return
            connection.sendall(start)
            while not over.wait(0.05):  # noqa: B023 (called while it is this one)
                connection.sendall(drop)

        items, taken = [f"/{number}" for number in range(COUNT)], []
        with server(talk) as port, Lanes(4, "test") as lanes, volley_to(port, taken) as asked:
            left, reason = asked.fetch(items, lanes)
        over.set()
        if not isinstance(reason, Late) or "/3" not in left or sorted(left + taken) != sorted(items):
            sys.exit(f"{name} for ever: {reason!r}, left {left}, taken {taken}")
        print(name, "for ever:", reason)


def check_kept() -> None:
    """Connections that the server closed between two batches are opened anew."""

    kept: list[socket] = []

    def talk(connection: socket, target: str) -> None:
        kept.append(connection)
        connection.sendall(GOOD)

    taken: list[str] = []
    with server(talk) as port, Lanes(4, "test") as lanes, volley_to(port, taken) as asked:
        for batch in range(3):
            left, reason = asked.fetch([f"/{batch}/{number}" for number in range(volley.CONNECTIONS)], lanes)
            if left or reason:
                sys.exit(f"batch {batch}: {reason!r}, left {left}")
            while kept:
                kept.pop().shutdown(SHUT_RDWR)
    print("batches over connections that were closed:", len(taken))


volley.PATIENCE_SECONDS = 0.5
check_drips()
volley.PATIENCE_SECONDS = 30.0
check_kept()
for value in ("Mon, 01 Jan 99999999999999 00:00:00 GMT", "soon", ""):
    if retry_after({"Retry-After": value}) is not None:
        sys.exit(f"Retry-After: {value}")
print("done")

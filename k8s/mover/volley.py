"""Many small answers for one thread: while it reads one, the next ones are on their way over other connections.

With a thread for each, the interpreter changes hands at every wait, and that costs a small file more than its bytes do.
Nothing is judged here: what does not come as it should is left to be asked for by Web, which knows what each failure means.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from selectors import EVENT_READ, DefaultSelector
from threading import Event
from typing import Generic, TypeVar

from failure import Stopped
from lanes import Lanes
from retry import RETRY_AFTER_CAP_SECONDS
from web import retry_after

Item = TypeVar("Item")

CONNECTIONS = 32
# Web has more patience: who moves nothing for so long is left to it.
PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Get:
    """A request: the path and query, its headers, and the bytes that are to come (at least one)."""

    target: str
    headers: dict[str, str]
    size: int


class Missed(Exception):
    """Something else came, or nothing; `seconds` is how long the server wants to be left alone."""

    def __init__(self, words: str, seconds: float | None = None) -> None:
        super().__init__(words)
        self.seconds = min(seconds or 0.0, RETRY_AFTER_CAP_SECONDS)


class Volley(Generic[Item]):
    """Fetches from one server. `connect(seconds)` opens a connection, or gives None where that cannot be."""

    def __init__(
        self,
        connect: Callable[[float], HTTPConnection | None],
        ask: Callable[[Item], Get],
        take: Callable[[Item, memoryview], bool],
        stop: Event,
    ) -> None:
        self._connect = connect
        self._ask = ask
        self._take = take
        self._stop = stop

    def fetch(self, items: Sequence[Item], lanes: Lanes) -> tuple[list[Item], Missed | None]:
        """Hands each item's bytes to take(item, body), in any order; gives those it did not take or that never came, and why.

        Behind the first of them no other is asked for: a server in trouble is to be asked with more care. No reason is
        given where there was no connection. Raises Stopped, and whatever take() raises.
        """
        opened = lanes.map(lambda _: self._connect(PATIENCE_SECONDS), range(min(CONNECTIONS, len(items))))
        connections = [connection for connection in opened if connection is not None]
        try:
            return self._fetch(items, connections)
        finally:
            for connection in connections:
                connection.close()

    def _fetch(self, items: Sequence[Item], connections: Sequence[HTTPConnection]) -> tuple[list[Item], Missed | None]:
        coming, free = iter(items), list(connections)
        asked: dict[HTTPConnection, tuple[Item, Get]] = {}
        left: list[Item] = []
        reasons: list[Missed] = []
        with DefaultSelector() as selector:
            while True:
                while free and not left and (item := next(coming, None)) is not None:
                    connection, get = free.pop(), self._ask(item)
                    try:
                        _send(connection, get)
                    except Missed as reason:
                        left.append(item)
                        reasons.append(reason)
                    else:
                        asked[connection] = item, get
                        selector.register(connection.sock, EVENT_READ, connection)
                if not asked:
                    break
                ready = selector.select(PATIENCE_SECONDS)
                if self._stop.is_set():
                    raise Stopped()
                if not ready:
                    left += [item for item, _ in asked.values()]
                    reasons.append(Missed(f"no byte came for {PATIENCE_SECONDS:.0f} s"))
                    break
                for key, _ in ready:
                    connection = key.data
                    selector.unregister(key.fileobj)
                    item, get = asked.pop(connection)
                    try:
                        if not self._take(item, _receive(connection, get)):
                            raise Missed("other bytes came")
                    except Missed as reason:
                        left.append(item)
                        reasons.append(reason)
                    else:
                        if connection.sock is not None:
                            free.append(connection)
        # Each server that says when to come back means it for all.
        return [*left, *coming], max(reasons, key=lambda reason: reason.seconds, default=None)


def _send(connection: HTTPConnection, get: Get) -> None:
    try:
        connection.request("GET", get.target, headers=get.headers)
    except (OSError, HTTPException) as error:
        raise Missed(type(error).__name__) from error


def _receive(connection: HTTPConnection, get: Get) -> memoryview:
    """The body, where it is all that was to come; closes a connection that cannot be used again. Raises Missed."""
    try:
        response = connection.getresponse()
        if response.status != 200:
            raise Missed(f"the answer is {response.status}", retry_after(dict(response.getheaders())))
        if response.getheader("Content-Length") != str(get.size):
            raise Missed("another length was announced")
        body, filled = memoryview(bytearray(get.size)), 0
        while filled < get.size and (count := response.readinto(body[filled:])):
            filled += count
    except (OSError, HTTPException) as error:
        raise Missed(type(error).__name__) from error
    if filled < get.size:
        raise Missed("the answer broke off")
    if not response.isclosed():
        connection.close()
    return body

"""Many small answers for one thread: while it reads one, the next ones are on their way over other connections.

With a thread for each, the interpreter changes hands at every wait, and that costs a small file more than its bytes do.
An answer that has begun is read to its end, so it has to fit into what a connection takes in unread: MOST_BYTES.
Nothing is judged here: what does not come as it should is left to be asked for by Web, which knows what each failure means.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from selectors import EVENT_READ, BaseSelector, DefaultSelector
from threading import Event
from typing import Generic, TypeVar

from urllib3.util.wait import wait_for_read

from failure import Stopped
from lanes import Lanes
from web import retry_after

Item = TypeVar("Item")

CONNECTIONS = 32
# Linux opens a connection's window with 64 KiB.
MOST_BYTES = 64 * 1024
# Web has more patience: as soon as one answer takes so long, all that is left is left to it.
PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Get:
    """A request: the path and query, its headers, and the bytes that are to come (at least one)."""

    target: str
    headers: dict[str, str]
    size: int


class Missed(Exception):
    """Something else came, or nothing; `retry_after` are the seconds for which the server wants to be left alone."""

    def __init__(self, words: str, retry_after: float | None = None) -> None:
        super().__init__(words)
        self.retry_after = retry_after


class Late(Missed):
    """An answer takes too long: so may all others, and each would be waited for."""


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
        self._coming, self._free = iter(items), list(connections)
        self._used: set[HTTPConnection] = set()
        self._asked: dict[HTTPConnection, tuple[Item, Get]] = {}
        self._left: list[Item] = []
        self._reasons: list[Missed] = []
        try:
            with DefaultSelector() as selector:
                self._exchange(selector)
        finally:
            for connection in connections:
                connection.close()
        left = [*self._left, *(item for item, _ in self._asked.values()), *self._coming]
        return left, max(self._reasons, key=lambda reason: reason.retry_after or 0.0, default=None)

    def _exchange(self, selector: BaseSelector) -> None:
        while True:
            self._send_ahead(selector)
            if not self._asked:
                return
            ready = selector.select(PATIENCE_SECONDS)
            if self._stop.is_set():
                raise Stopped()
            if not ready:
                self._reasons.append(Late(f"no byte came for {PATIENCE_SECONDS:.0f} s"))
                return
            for key, _ in ready:
                selector.unregister(key.fileobj)
                try:
                    self._read(key.data)
                except Late as reason:
                    self._reasons.append(reason)
                    return

    def _send_ahead(self, selector: BaseSelector) -> None:
        while self._free and not self._reasons:
            connection = self._free.pop()
            # What can be read before anything was asked for is its end, or out of step.
            if connection in self._used and wait_for_read(connection.sock, timeout=0):
                continue
            item = next(self._coming, None)
            if item is None:
                return
            get = self._ask(item)
            try:
                connection.request("GET", get.target, headers=get.headers)
            except (OSError, HTTPException) as error:
                self._miss(item, Missed(type(error).__name__))
                continue
            self._used.add(connection)
            self._asked[connection] = item, get
            selector.register(connection.sock, EVENT_READ, connection)

    def _read(self, connection: HTTPConnection) -> None:
        item, get = self._asked[connection]
        try:
            if not self._take(item, _receive(connection, get)):
                raise Missed("other bytes came")
        except Late:
            raise
        except Missed as reason:
            self._miss(item, reason)
        else:
            if connection.sock is not None:
                self._free.append(connection)
        del self._asked[connection]

    def _miss(self, item: Item, reason: Missed) -> None:
        self._left.append(item)
        self._reasons.append(reason)


def _receive(connection: HTTPConnection, get: Get) -> memoryview:
    """The body, where it is all that was to come. Raises Missed, Late."""
    until = time.monotonic() + PATIENCE_SECONDS
    body, filled = memoryview(bytearray(get.size)), 0
    try:
        response = connection.getresponse()
        if response.status != 200:
            raise Missed(f"the answer is {response.status}", retry_after(dict(response.getheaders())))
        if response.length != get.size:
            raise Missed("another length was announced")
        while piece := response.read1(get.size - filled):
            body[filled : filled + len(piece)] = piece
            filled += len(piece)
            if filled < get.size and time.monotonic() > until:
                raise Late(f"an answer took longer than {PATIENCE_SECONDS:.0f} s")
        # To its end, which read1 does not look for.
        response.read()
    except TimeoutError as error:
        raise Late(f"an answer stopped for {PATIENCE_SECONDS:.0f} s") from error
    except (OSError, HTTPException) as error:
        raise Missed(type(error).__name__) from error
    if filled < get.size:
        raise Missed("the answer broke off")
    return body

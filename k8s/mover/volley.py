"""Many small requests by one thread: while it reads an answer, the next ones are on their way over other connections.

With a thread for each, the interpreter changes hands at every wait, and that costs a small file more than its bytes do.
What is sent goes at once and an answer that has begun is read to its end, so both have to fit into what a connection
takes in: MOST_BYTES. Nothing is judged here: what does not come as it should is left to Web, which knows what each
failure means.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException, HTTPResponse
from io import BufferedReader, RawIOBase
from selectors import EVENT_READ, BaseSelector, DefaultSelector
from socket import SO_SNDBUF, SOL_SOCKET, socket
from threading import Event
from typing import Any, Generic, TypeVar

from urllib3.util.wait import wait_for_read

from failure import Stopped
from lanes import Lanes
from progress import counted
from retry import backoff
from web import REDIRECT, retry_after

Item = TypeVar("Item")

CONNECTIONS = 32
# Linux opens a connection's window with 64 KiB.
MOST_BYTES = 64 * 1024
# Web has more patience: as soon as one answer takes so long, all that is left is left to it.
PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Request:
    """What is asked for: `size` is the length of the answer's body, None where any will do; `followed` behind a redirect."""

    method: str
    target: str
    headers: dict[str, str]
    size: int | None
    body: memoryview | bytes | None = None
    followed: bool = False


@dataclass(frozen=True)
class Answer:
    """The whole body of an answer of status 200, and its ETag without quotes, where it has one."""

    body: memoryview
    etag: str


class Missed(Exception):
    """Something else came, or nothing; `retry_after` are the seconds for which the server wants to be left alone."""

    def __init__(self, words: str, retry_after: float | None = None) -> None:
        super().__init__(words)
        self.retry_after = retry_after


class Late(Missed):
    """An answer takes too long: so may all others, and each would be waited for."""


class _Until(RawIOBase):
    """Reads a connection up to a moment: a timeout of its own bounds one read, and a server may make many of an answer."""

    def __init__(self, connection: socket, stream: RawIOBase, until: float) -> None:
        self._connection = connection
        self._stream = stream
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._stream.readinto(buffer)

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Response(HTTPResponse):
    """Has to be through, headers and all, within the patience that there is with it."""

    def __init__(self, sock: socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = BufferedReader(_Until(sock, self.fp.detach(), time.monotonic() + PATIENCE_SECONDS))


class _Redirected(Exception):
    """The answer is at another address; its own body has been read."""


class Volley(Generic[Item]):
    """Asks one server. `connect(seconds)` opens a connection, or gives None where that cannot be.

    `take(item, answer)` raises Missed for an answer that it does not want. `follow(request, location)` gives the request
    that a redirect asks for, None where this server is not the one for it; without it a redirect is an answer like others.
    """

    def __init__(
        self,
        connect: Callable[[float], HTTPConnection | None],
        ask: Callable[[Item], Request],
        take: Callable[[Item, Answer], None],
        stop: Event,
        follow: Callable[[Request, str], Request | None] | None = None,
    ) -> None:
        self._connect = connect
        self._ask = ask
        self._take = take
        self._stop = stop
        self._follow = follow
        self._free: list[HTTPConnection] = []
        self._used: set[HTTPConnection] = set()
        self._asked: dict[HTTPConnection, tuple[Item, Request]] = {}

    def fetch(self, items: Sequence[Item], lanes: Lanes) -> tuple[list[Item], Missed | None]:
        """Hands each item's answer to take(), in any order; gives those it did not take or that never came, and why.

        Behind the first of them no other is asked for: a server in trouble is to be asked with more care. No reason is
        given where there was no connection or a redirect led elsewhere. Raises Stopped, and whatever take() raises.
        """
        self._free = [connection for connection in self._free if self._is_sound(connection)]
        wanted = min(CONNECTIONS, len(items)) - len(self._free)
        opened = lanes.map(lambda _: self._open(), range(wanted))
        self._free += [connection for connection in opened if connection is not None]
        self._coming = iter(items)
        self._again: list[tuple[Item, Request]] = []
        self._left: list[Item] = []
        self._reasons: list[Missed] = []
        with DefaultSelector() as selector:
            self._exchange(selector)
        for connection in self._asked:
            connection.close()
        begun = [item for item, _ in [*self._asked.values(), *self._again]]
        self._asked.clear()
        left = [*self._left, *begun, *self._coming]
        return left, max(self._reasons, key=lambda reason: reason.retry_after or 0.0, default=None)

    def carry(self, items: Sequence[Item], lanes: Lanes, name: Callable[[Item], str]) -> list[Item]:
        """fetch(), and behind a failure a rest of the server, said with a name; gives those to be asked for with more care.

        Raises what fetch() raises.
        """
        left, reason = self.fetch(items, lanes)
        if reason is not None:
            wait = backoff(1, reason.retry_after)
            says = f"asking with more care for {counted(len(left))} in {wait:.1f} s"
            print(f"{says}, {name(left[0])} first: {reason}", flush=True)
            if self._stop.wait(wait):
                raise Stopped()
        return left

    def __enter__(self) -> "Volley[Item]":
        return self

    def __exit__(self, *error: object) -> None:
        for connection in [*self._free, *self._asked]:
            connection.close()

    def _open(self) -> HTTPConnection | None:
        connection = self._connect(PATIENCE_SECONDS)
        if connection is not None:
            # Linux begins with a quarter of this, and all others would wait until a far server has taken the rest.
            connection.sock.setsockopt(SOL_SOCKET, SO_SNDBUF, MOST_BYTES)
            connection.response_class = _Response
        return connection

    def _is_sound(self, connection: HTTPConnection) -> bool:
        """What can be read before anything was asked for is the connection's end, or out of step."""
        if connection in self._used and wait_for_read(connection.sock, timeout=0):
            self._used.remove(connection)
            connection.close()
            return False
        return True

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
            if not self._is_sound(connection):
                continue
            asked = self._next()
            if asked is None:
                self._free.append(connection)
                return
            item, request = asked
            connection.sock.settimeout(PATIENCE_SECONDS)
            try:
                connection.request(request.method, request.target, request.body, request.headers)
            except (OSError, HTTPException) as error:
                connection.close()
                self._miss(item, Missed(type(error).__name__))
                continue
            self._used.add(connection)
            self._asked[connection] = asked
            selector.register(connection.sock, EVENT_READ, connection)

    def _next(self) -> tuple[Item, Request] | None:
        if self._again:
            return self._again.pop()
        for item in self._coming:
            return item, self._ask(item)
        return None

    def _read(self, connection: HTTPConnection) -> None:
        item, request = self._asked[connection]
        whole = False
        try:
            answer = _receive(connection, request, redirects=self._follow is not None)
            whole = True
            self._take(item, answer)
        except _Redirected as redirect:
            whole = True
            following = self._follow(request, str(redirect)) if self._follow and not request.followed else None
            if following is None:
                self._left.append(item)
            else:
                self._again.append((item, replace(following, followed=True)))
        except Late:
            raise
        except Missed as reason:
            self._miss(item, reason)
        del self._asked[connection]
        if whole and connection.sock is not None:
            self._free.append(connection)
        else:
            connection.close()

    def _miss(self, item: Item, reason: Missed) -> None:
        self._left.append(item)
        self._reasons.append(reason)


def _receive(connection: HTTPConnection, request: Request, *, redirects: bool) -> Answer:
    """The answer, where it is what was to come. Raises Missed, Late, and _Redirected with the location."""
    try:
        response = connection.getresponse()
        redirected = redirects and response.status in REDIRECT
        if response.status != 200 and not redirected:
            raise Missed(f"the answer is {response.status}", retry_after(dict(response.getheaders())))
        least, most = (0, MOST_BYTES) if redirected or request.size is None else (request.size, request.size)
        announced = response.length
        if announced is not None:
            if not least <= announced <= most:
                raise Missed("another length was announced")
            least = announced
        body = bytearray()
        while piece := response.read1(most + 1 - len(body)):
            body += piece
            if len(body) > most:
                raise Missed("more bytes came")
        # To its end, which read1 does not look for.
        response.read()
    except TimeoutError as error:
        raise Late(f"an answer was not through in {PATIENCE_SECONDS:.0f} s") from error
    except (OSError, HTTPException) as error:
        raise Missed(type(error).__name__) from error
    if len(body) < least:
        raise Missed("the answer broke off")
    if redirected:
        raise _Redirected(response.headers.get("Location", ""))
    return Answer(memoryview(body), response.headers.get("ETag", "").strip('"'))

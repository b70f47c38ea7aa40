"""The primitive of both hops: an ordered, parallel, ranged reader with a bounded window.

Parts of files are fetched side by side, hashed in file order, and handed to a sink. All bytes in flight live in slots
that are allocated and touched at the start: memory is the same for a small model and a huge one, and where the pod's
limit is too low it ends in its first second, not in its last minute.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from digest import Sha256
from failure import Again, Failure, Stopped
from retry import retry

# The least that S3 joins.
SMALLEST_PART = 5 * 2**20
# The larger, the fewer requests. But on a full link a connection now and then gets little for seconds, and the parts
# behind its own keep their slots until it is through: so the budget holds at least so many.
USUAL_PART = 8 * 2**20
BUDGET_PARTS = 32
# Spaces serves at most 10 PUTs of one object at a time; 8 leaves room for a run that is about to end elsewhere.
LANES = 8


def part_size(size: int, buffer: int, limit: int = 10_000) -> int:
    """Bytes a part of a file of `size`: the usual, less where the budget is small, more where `limit` parts would not do.

    Raises Failure("bad-settings") where the budget cannot hold two such parts.
    """
    wanted = max(SMALLEST_PART, min(USUAL_PART, buffer // BUDGET_PARTS), -(-size // limit))
    wanted = -(-wanted // 2**20) * 2**20
    if wanted * 2 > buffer:
        raise Failure(
            "bad-settings",
            f"a file of {size} bytes needs parts of {wanted} bytes, and BUFFER ({buffer}) holds no two of them",
        )
    return wanted


class Fetch(Protocol):
    """Where a file's bytes come from: fills `view` from `start`, calling the function for each piece as it comes."""

    def __call__(self, start: int, view: memoryview, on_chunk: Callable[[memoryview], None]) -> None: ...


class Sink(Protocol):
    """Where a file's bytes go. A method that raises ends the run, except where it raises `Again`."""

    def accept(self, part: "Part") -> None:
        """A part is here; called from several threads in any order. Whoever keeps it longer calls hold() and release()."""

    def proceed(self, part: "Part", digest: Sha256) -> None:
        """The same part, now in file order and hashed."""

    def drop(self) -> None:
        """The file is given up: parts that are still held are released, and none is held from now on."""

    def finish(self, sha256: str) -> None:
        """All parts are hashed and released."""

    def restart(self, error: "Again") -> "Transfer | None":
        """The file has to be looked at again; gives what to do instead, None when nothing is left to do."""


@dataclass(eq=False)
class Transfer:
    """One file on its way. `first` is the first part to fetch (from 0), `digest` has hashed all before it.

    `first` may be behind the last part: then the file only has to be finished.
    """

    size: int
    part_size: int
    source: Fetch
    sink: Sink
    first: int = 0
    digest: Sha256 = field(default_factory=Sha256)
    on_bytes: Callable[[int], None] = lambda count: None
    # Bytes that a kill loses until the file is finished, since nothing of it is saved before.
    unsaved: int = 0
    # What it means for the file that a part cannot be had: an `Again` spares the other files.
    on_failure: Callable[[Failure], Exception] = lambda failure: failure
    _pending: dict[int, "Part"] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _draining: bool = False
    _outstanding: int = 0
    _issued_all: bool = False
    _settled: bool = False
    _fetched: int = 0
    _error: Again | None = None

    def __post_init__(self) -> None:
        self._next = self.first
        self.parts = -(-self.size // self.part_size)


class Part:
    """One part in flight: its number from 0, its bytes, and the SHA-256 of just these bytes."""

    def __init__(self, transfer: Transfer, number: int, slot: memoryview, done: Callable[["Part"], None]) -> None:
        self.transfer = transfer
        self.number = number
        self.start = number * transfer.part_size
        self.slot = slot
        self.view = slot[: min(transfer.part_size, transfer.size - self.start)]
        self.sha256 = ""
        self._holders = 1
        self._done = done
        self._lock = threading.Lock()

    def hold(self) -> None:
        """Keeps the bytes until release()."""
        with self._lock:
            self._holders += 1

    def release(self) -> None:
        """Gives the bytes back; the last holder's release frees the slot."""
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            self._done(self)


class Window:
    """Runs transfers through `buffer` bytes of slots with `LANES` fetching threads."""

    def __init__(self, buffer: int, stop: threading.Event, *, hash_parts: bool) -> None:
        self._buffer = buffer
        self._stop = stop
        self._hash_parts = hash_parts
        self._turn = threading.Lock()
        self._change = threading.Condition()
        self._queue: deque[Transfer] = deque()
        self._open = 0
        self._slots: list[memoryview] = []
        self._slot_bytes = 0
        # Of files that are all fetched and wait to be finished: what they would lose takes room as if it were in slots.
        self._unsaved = 0
        self._failure: BaseException | None = None
        # Joining a large object takes a while: it must keep neither a fetching thread nor the caller of release().
        self._settlers = ThreadPoolExecutor(LANES, thread_name_prefix="settle")

    def run(self, transfers: Iterable[Transfer]) -> None:
        """Moves everything; returns when every sink has finished. Raises the first Failure, or Stopped."""
        everything = list(transfers)
        self._open = len(everything)
        if not everything:
            return
        # A resumed file keeps the parts that it was begun with; taken up again, it gets those that the budget gives now.
        largest = max(max(transfer.part_size, part_size(transfer.size, self._buffer)) for transfer in everything)
        with self._change:
            for transfer in everything:
                self._enqueue(transfer)
        threads = [threading.Thread(target=self._work, name=f"fetch-{n}", daemon=True) for n in range(LANES)]
        self._slot_bytes = largest
        for thread in threads:
            thread.start()
        self._allocate(self._buffer // largest, largest)
        with self._change:
            self._change.wait_for(lambda: self._failure is not None or self._open == 0)
        if self._failure is not None:
            raise self._failure
        self._settlers.shutdown(wait=False)
        # Whoever still holds on to the window must not keep its memory: the next one takes as much again.
        self._slots.clear()

    def _allocate(self, count: int, size: int) -> None:
        """Makes the slots, each touched; the first parts are on their way meanwhile, as a quarter of a GiB takes a moment."""
        for _ in range(count):
            slot = memoryview(bytearray(b"\x01") * size)
            with self._change:
                self._slots.append(slot)
                self._change.notify_all()

    def fail(self, error: BaseException) -> None:
        """Ends the run with this error; the first one counts."""
        with self._change:
            self._failure = self._failure or error
            self._change.notify_all()

    def abandon(self, part: Part, error: Again) -> None:
        """The part's file has to be taken up again, once all of its parts are back."""
        transfer = part.transfer
        with transfer._lock:
            transfer._error = transfer._error or error
            stranded, transfer._pending = list(transfer._pending.values()), {}
        for other in stranded:
            other.release()
        transfer.sink.drop()

    def _enqueue(self, transfer: Transfer, *, next: bool = False) -> None:
        """Under `_change`: lines the file up, last or as the next one."""
        if transfer.first >= transfer.parts:
            self._settlers.submit(self._settle, transfer)
        elif next:
            self._queue.appendleft(transfer)
        else:
            self._queue.append(transfer)

    def _work(self) -> None:
        try:
            while (part := self._take()) is not None:
                self._carry(part)
                part.release()
        except BaseException as error:
            self.fail(error)

    def _has_room(self) -> bool:
        return len(self._slots) * self._slot_bytes >= self._unsaved + self._slot_bytes

    def _take(self) -> Part | None:
        """The next part in order, with a slot. One thread at a time stands in line, so that parts leave in order."""
        with self._turn:
            with self._change:
                self._change.wait_for(lambda: self._failure or self._open == 0 or (self._queue and self._has_room()))
                if self._failure or self._open == 0:
                    return None
                transfer = self._queue[0]
                slot = self._slots.pop()
            with transfer._lock:
                number = transfer.first
                transfer.first += 1
                transfer._outstanding += 1
                last = transfer.first >= transfer.parts or transfer._error is not None
                transfer._issued_all = last
            if last:
                with self._change:
                    self._queue.remove(transfer)
            return Part(transfer, number, slot, self._give_back)

    def _carry(self, part: Part) -> None:
        transfer = part.transfer
        try:
            if transfer._error is None:
                self._fetch(part)
            if transfer._error is None:
                transfer.sink.accept(part)
                self._drain(part)
        except Again as error:
            self.abandon(part, error)

    def _fetch(self, part: Part) -> None:
        transfer = part.transfer

        def once() -> None:
            own = sha256() if self._hash_parts else None
            count = 0

            def on_chunk(piece: memoryview) -> None:
                nonlocal count
                if own is not None:
                    own.update(piece)
                count += len(piece)
                transfer.on_bytes(len(piece))

            try:
                if self._stop.is_set():
                    raise Stopped()
                transfer.source(part.start, part.view, on_chunk)
            except BaseException:
                transfer.on_bytes(-count)
                raise
            part.sha256 = own.hexdigest() if own is not None else ""

        try:
            retry(once, self._stop)
        except Failure as failure:
            raise transfer.on_failure(failure) from failure
        with transfer._lock:
            transfer._fetched += len(part.view)

    def _drain(self, part: Part) -> None:
        """Hashes in file order whatever is there; one thread at a time, the others go on fetching."""
        transfer = part.transfer
        with transfer._lock:
            if transfer._error is not None:
                return
            part.hold()
            transfer._pending[part.number] = part
            if transfer._draining:
                return
            transfer._draining = True
        while True:
            with transfer._lock:
                following = transfer._pending.pop(transfer._next, None)
                if following is None:
                    transfer._draining = False
                    return
            try:
                if transfer._error is None:
                    transfer.digest.update(following.view)
                    transfer.sink.proceed(following, transfer.digest)
            except Again as error:
                self.abandon(following, error)
            finally:
                with transfer._lock:
                    transfer._next += 1
                following.release()

    def _give_back(self, part: Part) -> None:
        transfer = part.transfer
        with transfer._lock:
            transfer._outstanding -= 1
            settled = transfer._issued_all and transfer._outstanding == 0 and not transfer._settled
            transfer._settled = transfer._settled or settled
        with self._change:
            self._slots.append(part.slot)
            self._unsaved += transfer.unsaved if settled else 0
            self._change.notify_all()
        if settled:
            self._settlers.submit(self._settle, transfer)

    def _settle(self, transfer: Transfer) -> None:
        """All parts of the file are back: it is finished, or taken up again."""
        following: Transfer | None = None
        try:
            try:
                if transfer._error is not None:
                    raise transfer._error
                transfer.sink.finish(transfer.digest.hexdigest())
            except Again as error:
                transfer.on_bytes(-transfer._fetched)
                following = transfer.sink.restart(error)
        except BaseException as error:
            self.fail(error)
            return
        with self._change:
            self._unsaved -= transfer.unsaved
            if following is None:
                self._open -= 1
            else:
                self._enqueue(following, next=True)
            self._change.notify_all()

# ruff: noqa: S101 (a test)
"""Drives the mover's window with seeded delays and failures; prints one line a round and fails on the first broken promise."""

import faulthandler
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "k8s/mover"))

import retry
import window
from digest import Sha256
from failure import Again, Failure
from window import Part, Transfer, Window

retry.BASE_SECONDS = 0.0005
retry.CAP_SECONDS = 0.002
UNIT = 1024
# Below what ends a run: a call is tried 8 times.
MOST_BROKEN = 4
MOST_AGAIN = 3


def ordinary_part_size(size: int, buffer: int, limit: int = 0) -> int:
    """Kilobytes instead of megabytes: what is tested is the order of events."""
    return UNIT * (1 + size % (buffer // UNIT // 2))


window.part_size = ordinary_part_size


class Chance:
    """A seeded source of delays and of failures; shared by all threads of a round."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.trouble = self._random.choice((0.0, 0.02, 0.1, 0.3))
        self.slowness = self._random.choice((0.0, 0.0005, 0.003))

    def integer(self, low: int, high: int) -> int:
        with self._lock:
            return self._random.randint(low, high)

    def strikes(self, factor: float = 1.0) -> bool:
        with self._lock:
            return self._random.random() < self.trouble * factor

    def pause(self) -> None:
        with self._lock:
            seconds = self._random.random() * self.slowness
        if seconds:
            time.sleep(seconds)


class Slots(list[memoryview]):
    """A window's free slots, and those that were there when it gave them up."""

    def __init__(self) -> None:
        super().__init__()
        self.at_end: list[memoryview] = []

    def clear(self) -> None:
        self.at_end += self
        super().clear()


class Round:
    """One run of a window over some files, with everything that must hold in it."""

    def __init__(self, seed: int) -> None:
        self.chance = Chance(seed)
        self.buffer = self.chance.integer(2, 12) * 2 * UNIT
        self.window = Window(self.buffer, threading.Event(), hash_parts=True)
        self.slots = self.window._slots = Slots()
        self.pool = ThreadPoolExecutor(4)
        self.lock = threading.Lock()
        self.counted = 0
        self.finished: dict[str, str] = {}
        self.bodies = {
            f"file-{number}": random.Random(seed * 100 + number).randbytes(self.chance.integer(0, 20 * UNIT))
            for number in range(self.chance.integer(1, 6))
        }
        self.restarts: dict[str, int] = dict.fromkeys(self.bodies, 0)

    def run(self) -> None:
        self.window.run([self.transfer(name, resumed=self.chance.integer(0, 1) == 1) for name in self.bodies])
        expected = {name: sha256(body).hexdigest() for name, body in self.bodies.items()}
        assert self.finished == expected, "every file is finished once, with its own bytes"
        assert self.counted == sum(len(body) for body in self.bodies.values()), (self.counted, "bytes are counted once")
        slots = {id(slot): len(slot) for slot in self.slots.at_end}
        assert len(slots) == len(self.slots.at_end) == self.buffer // max(slots.values()), "every slot is back"
        assert not self.slots, "their memory is given back"
        self.pool.shutdown()

    def transfer(self, name: str, *, resumed: bool = False) -> Transfer:
        body = self.bodies[name]
        size = window.part_size(len(body), self.buffer)
        if resumed:
            size = self.chance.integer(1, self.buffer // UNIT // 2) * UNIT
        first = self.chance.integer(0, -(-len(body) // size)) if resumed else 0
        digest = Sha256()
        done = bytearray(body[: first * size])
        digest.update(memoryview(done))
        self.count(len(done))
        sink = RandomSink(self, name, size, first, len(done))
        unsaved = 0 if first == -(-len(body) // size) else self.chance.integer(0, 1) * len(body)
        source = self.source(body, sink.again)
        return Transfer(len(body), size, source, sink, first, digest, self.count, unsaved)

    def source(self, body: bytes, again: Callable[[float], bool]) -> Callable[..., None]:
        broken: Counter[int] = Counter()

        def fetch(start: int, view: memoryview, on_chunk: Callable[[memoryview], None]) -> None:
            assert 0 <= start < len(body), "no part begins outside of its file"
            wanted = body[start : start + len(view)]
            assert len(wanted) == len(view), "no part is longer than its file"
            at = 0
            while at < len(view):
                self.chance.pause()
                if broken[start] < MOST_BROKEN and self.chance.strikes():
                    broken[start] += 1
                    raise Failure("short-body", "a broken connection")
                if again(0.02):
                    raise Again("the object was replaced")
                step = min(self.chance.integer(1, 2 * UNIT), len(view) - at)
                view[at : at + step] = wanted[at : at + step]
                on_chunk(view[at : at + step])
                at += step

        return fetch

    def count(self, count: int) -> None:
        with self.lock:
            self.counted += count


class RandomSink:
    """Keeps parts while they are stored and until they are journaled, as an upload does, and now and then has enough of its file."""

    def __init__(self, round_: Round, name: str, size: int, first: int, resumed: int) -> None:
        self.round, self.name, self.size, self.resumed = round_, name, size, resumed
        self.following = first
        self.kept = 0
        self.waiting: dict[int, Part] = {}
        self.dropped = False
        self.lock = threading.Lock()

    def again(self, factor: float) -> bool:
        return self.round.restarts[self.name] < MOST_AGAIN and self.round.chance.strikes(factor)

    def accept(self, part: Part) -> None:
        body = self.round.bodies[self.name]
        assert bytes(part.view) == body[part.start : part.start + self.size]
        assert part.sha256 == sha256(part.view).hexdigest()
        if self.round.chance.strikes(0.5) or self.round.chance.integer(0, 1):
            part.hold()
            with self.lock:
                self.kept += 1
            self.round.pool.submit(self.store, part, bytes(part.view))
        if self.again(0.2):
            raise Again("accept")

    def store(self, part: Part, body: bytes) -> None:
        try:
            self.round.chance.pause()
            assert bytes(part.view) == body, "the bytes of a held part stay"
            if self.again(0.2):
                self.round.window.abandon(part, Again("store"))
        except BaseException as error:
            self.round.window.fail(error)
        finally:
            with self.lock:
                self.kept -= 1
            part.release()

    def proceed(self, part: Part, digest: Sha256) -> None:
        assert part.number == self.following, "parts come in file order"
        self.following += 1
        with self.lock:
            if not self.dropped:
                part.hold()
                self.waiting[part.number] = part
        self.round.pool.submit(self.write, part.number + 1)
        self.round.chance.pause()
        if self.again(0.2):
            raise Again("proceed")

    def write(self, count: int) -> None:
        self.round.chance.pause()
        with self.lock:
            written = [self.waiting.pop(number) for number in list(self.waiting) if number < count]
        for part in written:
            part.release()

    def drop(self) -> None:
        with self.lock:
            self.dropped = True
            waiting, self.waiting = list(self.waiting.values()), {}
        for part in waiting:
            part.release()

    def finish(self, sha256: str) -> None:
        assert self.kept == 0, "no part is held any more"
        assert not self.waiting, "no part is held any more"
        assert self.following == -(-len(self.round.bodies[self.name]) // self.size), "no part is missing"
        self.round.chance.pause()
        if self.again(1.0):
            raise Again("finish")
        with self.round.lock:
            assert self.name not in self.round.finished, "a file is finished once"
            self.round.finished[self.name] = sha256

    def restart(self, error: Again) -> Transfer | None:
        assert self.kept == 0, "no part is held any more"
        assert self.name not in self.round.finished, "a finished file is left alone"
        self.round.restarts[self.name] += 1
        self.round.count(-self.resumed)
        return self.round.transfer(self.name)


class HeldSink:
    """Of a file of one part, of which nothing is saved before it is finished; that is held."""

    def __init__(self, opened: threading.Event) -> None:
        self.opened = opened

    def accept(self, part: Part) -> None:
        pass

    def proceed(self, part: Part, digest: Sha256) -> None:
        pass

    def drop(self) -> None:
        pass

    def finish(self, sha256: str) -> None:
        self.opened.wait()

    def restart(self, error: Again) -> Transfer | None:
        raise error


def hold() -> None:
    """However slow it is to finish files, no more of them are fetched than a kill may lose."""
    buffer, size, files = 16 * UNIT, UNIT, 60
    opened = threading.Event()
    fetched: list[int] = []

    def fetch(start: int, view: memoryview, on_chunk: Callable[[memoryview], None]) -> None:
        fetched.append(len(view))

    held = Window(buffer, threading.Event(), hash_parts=False)
    transfers = [Transfer(size, size, fetch, HeldSink(opened), unsaved=size) for number in range(files)]
    running = threading.Thread(target=held.run, args=(transfers,))
    running.start()
    while True:
        with held._change:
            slots = buffer // held._slot_bytes if held._slot_bytes else 0
            if slots and len(held._slots) == slots and not (held._queue and held._has_room()):
                break
        time.sleep(0.001)
    ahead = sum(fetched)
    opened.set()
    running.join()
    assert ahead <= buffer, (ahead, "no more is fetched than the window while files wait to be finished")
    assert sum(fetched) == files * size, "all is fetched in the end"


def main(rounds: int) -> None:
    for seed in range(rounds):
        print(f"round {seed}", flush=True)
        # A lost wake-up shows as silence: say where every thread stands, and end.
        faulthandler.dump_traceback_later(30, exit=True)
        Round(seed).run()
        faulthandler.cancel_dump_traceback_later()


hold()
main(int(sys.argv[1]))

"""What `kubectl logs` shows while bytes move: one newline line at a steady pace, readable and parseable."""

import threading
import time
from collections import deque

STEADY_SECONDS = 10.0
# The rate is what moved lately: an average since the start hides a link that has become slow.
RATE_SECONDS = 30.0


class Progress:
    """Counts bytes and files; thread-safe. `bytes done` are those proved or on their way, `moved` those this pod carried."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._phase = ""
        self._total = self._done = self._moved = 0
        self._files = self._files_done = 0
        self._carried: dict[str, int] = {}
        self._start = time.monotonic()
        self._samples: deque[tuple[float, int]] = deque()
        self._end = threading.Event()

    @property
    def moved(self) -> int:
        """Bytes that this pod moved and kept."""
        return self._moved

    @property
    def files_moved(self) -> int:
        """Files of which this pod moved bytes; the others were there."""
        return len(self._carried)

    @property
    def seconds(self) -> float:
        """Since the start of the mover."""
        return time.monotonic() - self._start

    def start(self) -> None:
        """Prints a line at once and then every 10 s, from a thread of its own."""
        threading.Thread(target=self._tick, name="progress", daemon=True).start()

    def stop(self) -> None:
        """Ends the steady lines and prints the last one."""
        self._end.set()
        print(self.line(), flush=True)

    def enter(self, phase: str) -> None:
        """Begins a phase: installing, planning, moving, hashing, checking (of names and sizes), finishing."""
        with self._lock:
            changed, self._phase = phase != self._phase, phase
            self._samples.clear()
        if changed:
            print(self.line(), flush=True)

    def expect(self, files: int, size: int) -> None:
        """What the whole run is about."""
        with self._lock:
            self._files, self._total = files, size

    def move(self, path: str, count: int) -> None:
        """`count` bytes of a file were moved; negative where they have to be moved again."""
        with self._lock:
            self._done += count
            self._moved += count
            self._carried[path] = self._carried.get(path, 0) + count
            if count < 0 and self._carried[path] <= 0:
                del self._carried[path]

    def hash(self, count: int) -> None:
        """`count` bytes were read back and hashed; negative where that proved nothing."""
        with self._lock:
            self._done += count

    def finish(self, files: int = 1) -> None:
        """`files` files are proved."""
        with self._lock:
            self._files_done += files

    def line(self) -> str:
        """`progress 45% 7230000000/16060000000 B 243 MB/s eta 36s files 6/17 phase moving`"""
        with self._lock:
            now = time.monotonic()
            self._samples.append((now, self._done))
            while now - self._samples[0][0] > RATE_SECONDS:
                self._samples.popleft()
            seconds, count = now - self._samples[0][0], self._done - self._samples[0][1]
            rate = count / seconds if seconds > 0.5 and count > 0 else 0.0
            # Never 100 before the end: a rounded-up 99.6 reads as done.
            percent = 100 * self._done // self._total if self._total else 0
            speed = f"{rate / 1e6:.0f}" if rate >= 1e7 else f"{rate / 1e6:.1f}" if rate else "-"
            eta = f"{(self._total - self._done) / rate:.0f}s" if rate else "-"
            return (
                f"progress {percent}% {self._done}/{self._total} B {speed} MB/s eta {eta} "
                f"files {self._files_done}/{self._files} phase {self._phase}"
            )

    def _tick(self) -> None:
        while not self._end.wait(STEADY_SECONDS):
            print(self.line(), flush=True)


def human(size: int) -> str:
    """`16.1 GB`: decimal, as disks, links and buckets are sold."""
    value, units = float(size), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" or value >= 100 else f"{value:.1f} {units[0]}"


def counted(files: int) -> str:
    """`1 file`, `13 files`."""
    return f"{files} {'file' if files == 1 else 'files'}"

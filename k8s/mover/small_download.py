"""Hop 2's small files: asked for side by side, and many made last and put in their places at a time."""

import os
import threading
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256 as hash_sha256

from descriptor import write_at
from evidence import File
from lanes import Lanes
from mark import Mark
from partials import Partials, allow_open_files
from progress import Progress
from proofs import Proofs
from refusal import Gone
from retry import retry
from small import LANES, uncounted
from source import Source
from volley import MOST_BYTES, Answer, Missed, Request, Volley
from volume import naming

# Small files that are open at a time.
BATCH = 512


@dataclass(frozen=True)
class Small:
    """A small file's partial, open and locked; `whole` where a killed run has written it to its end."""

    file: File
    descriptor: int
    whole: bool


class SmallDownload:
    """The small files of one run."""

    def __init__(
        self, source: Source, partials: Partials, proofs: Proofs, progress: Progress, stop: threading.Event
    ) -> None:
        self._source = source
        self._partials = partials
        self._proofs = proofs
        self._progress = progress
        self._stop = stop

    def carry(self, files: list[File]) -> set[File]:
        """Opens many, writes them, then makes them last and puts them in place: the waits for the disk overlap.

        Gives those that another run is writing. They are left for later: who waits must hold nothing the other waits for.
        """
        allow_open_files(BATCH)
        spread = _spread(files)
        busy: set[File] = set()
        with (
            Lanes(LANES, "small") as lanes,
            Volley(self._source.connect, self._ask, self._receive, self._stop) as volley,
        ):
            for start in range(0, len(spread), BATCH):
                batch = spread[start : start + BATCH]
                opened = lanes.map(self._open, batch)
                ours = [small for small in opened if small is not None]
                missing = [small for small in ours if not small.whole]
                few = [small for small in missing if small.file.size <= MOST_BYTES]
                left = volley.carry(few, lanes, lambda small: small.file.path)
                lanes.map(self._write, left + [small for small in missing if small.file.size > MOST_BYTES])
                placed = zip(ours, lanes.map(self._finish, ours), strict=True)
                marks = {small.file: mark for small, mark in placed if mark is not None}
                self._proofs.prove_all(marks)
                busy |= set(batch) - marks.keys()
        return busy

    def _finish(self, small: Small) -> Mark | None:
        """None when another run took the partial away."""
        with naming(small.file.path):
            try:
                os.fsync(small.descriptor)
            except OSError:
                os.ftruncate(small.descriptor, 0)
                raise
        return self._partials.place(small.file, small.descriptor)

    def _open(self, file: File) -> Small | None:
        """Takes the file's partial; None while another run holds it."""
        descriptor = self._partials.open(file)
        if descriptor is None:
            return None
        with naming(file.path):
            held = os.fstat(descriptor).st_size
            digest = self._proofs.hash(descriptor, held) if held == file.size else None
        # A killed run wrote it to its end.
        if digest is not None and digest.hexdigest() == file.sha256:
            return Small(file, descriptor, whole=True)
        if held:
            self._progress.hash(-held if digest else 0)
            self._partials.drop(file, descriptor)
            return self._open(file)
        return Small(file, descriptor, whole=False)

    def _ask(self, small: Small) -> Request:
        return self._source.ask(small.file)

    def _receive(self, small: Small, answer: Answer) -> None:
        if not self._take(small, answer.body):
            raise Missed("other bytes came")

    def _take(self, small: Small, body: memoryview) -> bool:
        """Writes the bytes, if they are the file's; where other ones come again, Spaces is to blame."""
        file = small.file
        sha256 = hash_sha256(body).hexdigest()
        if sha256 != file.sha256:
            self._source.refuse(file, f"{file.path}: SHA-256 {file.sha256} is in the evidence, {sha256} came")
            return False
        with naming(file.path):
            write_at(small.descriptor, body, 0)
        self._progress.move(file.path, file.size)
        return True

    def _write(self, small: Small) -> None:
        """One that did not come with the others."""
        file = small.file
        body = memoryview(bytearray(file.size))
        taken = False
        while not taken:
            try:
                retry(lambda: self._source.fetch(file, 0, body, uncounted), self._stop)
            except Gone as error:
                raise self._source.changed(file) from error
            taken = self._take(small, body)


def _spread(files: list[File]) -> list[File]:
    """The files of each folder as far apart as can be: a folder takes in one file at a time, and the others would wait for it."""
    before: Counter[str] = Counter()
    turns: dict[File, int] = {}
    for file in files:
        folder = os.path.dirname(file.path)
        turns[file] = before[folder]
        before[folder] += 1
    return sorted(files, key=turns.__getitem__)

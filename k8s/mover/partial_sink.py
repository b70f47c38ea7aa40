"""Hop 2's sink: a file written in order beside its place, and put there once its hash agreed."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from descriptor import STEP, drop_cache, write_at
from digest import Sha256
from evidence import File
from failure import Again, Failure
from mark import Mark
from partials import Partials
from volume import naming
from window import Part, Transfer


class WrongBytes(Again):
    """All bytes of the file came, and they are not the ones its evidence lists."""


class Taken(Again):
    """Another run took the partial away: what it holds may be in its place by now, or nowhere."""


class PartialSink:
    """One file: bytes go to `NAME.<8 of its sha256>.partial`, then fsync, then rename; `held` of them are there already."""

    def __init__(
        self,
        file: File,
        descriptor: int,
        held: int,
        partials: Partials,
        flusher: ThreadPoolExecutor,
        on_proof: Callable[[File, Mark], None],
        on_again: Callable[[File, int, Again], Transfer | None],
    ) -> None:
        self._file = file
        self._descriptor = descriptor
        self._partials = partials
        self._flusher = flusher
        self._on_proof = on_proof
        self._on_again = on_again
        # Up to where the disk has it, and up to where it was asked to.
        self._lasting = self._asked = held
        self._flush: Future[None] | None = None

    def accept(self, part: Part) -> None:
        """Nothing to do before the part's turn: written in order, the partial's length says what it holds."""

    def proceed(self, part: Part, digest: Sha256) -> None:
        """Writes the part, and lets an older stretch reach the disk meanwhile."""
        with naming(self._file.path):
            write_at(self._descriptor, part.view, part.start)
        end = part.start + len(part.view)
        if end - self._asked >= STEP:
            self._write_back(end)

    def drop(self) -> None:
        """Nothing is kept."""

    def finish(self, sha256: str) -> None:
        """fsync and rename, if these are the bytes that the evidence lists; the descriptor is closed then."""
        if sha256 != self._file.sha256:
            raise WrongBytes(f"{self._file.path}: SHA-256 {self._file.sha256} is in the evidence, {sha256} came")
        self._write_back(self._file.size)
        self._await_flush()
        mark = self._partials.place(self._file, self._descriptor)
        if mark is None:
            raise Taken(f"{self._file.path}: another run took its partial away")
        self._on_proof(self._file, mark)

    def restart(self, error: Again) -> Transfer | None:
        """What comes next is the run's to say; the partial stays open and locked."""
        self._await_flush()
        return self._on_again(self._file, self._descriptor, error)

    def _write_back(self, end: int) -> None:
        self._await_flush()
        self._flush = self._flusher.submit(write_back, self._file, self._descriptor, self._asked, end)
        self._asked = end

    def _await_flush(self) -> None:
        """What did not reach the disk is cut off: the cache shows it still, to the next pod too, and calls it written."""
        if self._flush is None:
            return
        try:
            self._flush.result()
        except Failure:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._lasting)
            raise
        self._lasting = self._asked


def write_back(file: File, descriptor: int, start: int, end: int) -> None:
    """Makes a stretch last, and gives its cached pages back: the pod's limit counts them."""
    with naming(file.path):
        os.fsync(descriptor)
    drop_cache(descriptor, start, end - start)

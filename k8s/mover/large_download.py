"""Hop 2's large files: several parts of several files at a time, written in order, and taken up behind what a killed run left."""

import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from descriptor import STEP
from digest import Sha256
from evidence import File
from failure import Again, Failure
from partial_sink import PartialSink, Taken
from partials import Partials, allow_open_files
from progress import Progress
from proofs import Proofs
from refusal import Gone
from source import Source
from volume import naming
from window import Transfer, Window, part_size

TAKEN_MOST = 3


class LargeDownload:
    """The large files of one run, `buffer` bytes of them in memory at a time."""

    def __init__(
        self,
        source: Source,
        partials: Partials,
        proofs: Proofs,
        progress: Progress,
        stop: threading.Event,
        buffer: int,
    ) -> None:
        self._source = source
        self._partials = partials
        self._proofs = proofs
        self._progress = progress
        self._stop = stop
        self._buffer = buffer
        self._resumed: Counter[str] = Counter()
        self._shortened: set[str] = set()
        self._taken: Counter[str] = Counter()

    def carry(self, files: list[File]) -> None:
        """Moves those that are not in their places yet; waits where another run is writing one."""
        allow_open_files(len(files))
        self._flusher = ThreadPoolExecutor(4, thread_name_prefix="flush")
        window = Window(self._buffer, self._stop, hash_parts=False)
        transfers = [self._begin(file) for file in files]
        self._progress.enter("moving")
        window.run(transfer for transfer in transfers if transfer is not None)

    def _begin(self, file: File) -> Transfer | None:
        """Takes the partial up where it ends; None when another run finished the file meanwhile."""
        descriptor = self._partials.await_lock(file, self._stop)
        if self._proofs.candidates([file]) and self._proofs.is_good(file):
            self._partials.close(file, descriptor)
            return None
        return self._go_on(file, descriptor, file.size)

    def _go_on(self, file: File, descriptor: int, most: int) -> Transfer | None:
        """Takes up at most so many bytes of the partial; begins a new one where it cannot be read."""
        size = part_size(file.size, self._buffer)
        with naming(file.path):
            held = os.fstat(descriptor).st_size
            # Cut only where it is too long: without locks, a run that races may just have written what would be cut.
            if held > file.size:
                os.ftruncate(descriptor, file.size)
            # Whole parts only, and never all of it: the last part's arrival is what finishes the file.
            parts = max(0, min(held, file.size - 1, most)) // size
            digest: Sha256 | None = Sha256()
            if parts:
                self._progress.enter("hashing")
                print(f"going on with {file.path} behind {parts * size} of {file.size} B", flush=True)
                digest = self._proofs.hash(descriptor, parts * size)
        if digest is None:
            print(f"what there is of {file.path} cannot be read", flush=True)
            self._partials.drop(file, descriptor)
            return self._begin(file)
        self._resumed[file.path] = parts * size
        return self._transfer(file, descriptor, size, parts, digest)

    def _transfer(self, file: File, descriptor: int, size: int, parts: int, digest: Sha256) -> Transfer:
        return Transfer(
            size=file.size,
            part_size=size,
            source=lambda start, view, on_chunk: self._source.fetch(file, start, view, on_chunk),
            sink=PartialSink(
                file, descriptor, parts * size, self._partials, self._flusher, self._proofs.prove, self._again
            ),
            first=parts,
            digest=digest,
            on_bytes=lambda count: self._progress.move(file.path, count),
        )

    def _again(self, file: File, descriptor: int, error: Again) -> Transfer | None:
        """Wrong bytes: once more from the start, since the wrong ones may have been in the partial; then Spaces is to blame.

        Once from a little before its end: there stands what a lost node had not written yet.
        """
        if isinstance(error, Gone):
            raise self._source.changed(file) from error
        resumed = self._resumed.pop(file.path, 0)
        self._progress.hash(-resumed)
        if isinstance(error, Taken):
            return self._retake(file)
        if not resumed:
            self._source.refuse(file, str(error))
        print(f"fetching {file.path} again: {error}", flush=True)
        size = part_size(file.size, self._buffer)
        # Two stretches are on their way to the disk at a time, and each is longer than a step by less than a part.
        sound = resumed - 2 * (STEP + size)
        if sound >= size and file.path not in self._shortened:
            self._shortened.add(file.path)
            transfer = self._go_on(file, descriptor, sound)
            self._progress.enter("moving")
            return transfer
        with naming(file.path):
            os.ftruncate(descriptor, 0)
        return self._transfer(file, descriptor, size, 0, Sha256())

    def _retake(self, file: File) -> Transfer | None:
        self._taken[file.path] += 1
        if self._taken[file.path] > TAKEN_MOST:
            raise Failure("volume-io", f"the partial of {file.path} was taken away {TAKEN_MOST} times")
        return self._begin(file)

"""What one run of hop 2 knows of the files on the volume: which ones are proved, and which hold other bytes."""

import os
import threading
from collections.abc import Iterable

from descriptor import hash_stored
from digest import Sha256
from download_journal import DownloadJournal
from evidence import File
from failure import Stopped
from mark import Mark
from progress import Progress
from volume import Volume, naming


class Proofs:
    """`marks` has each proved file by its path, as it was then. What is found is counted, and in the journal for the next run."""

    def __init__(self, volume: Volume, journal: DownloadJournal, progress: Progress, stop: threading.Event) -> None:
        self._volume = volume
        self._journal = journal
        self._progress = progress
        self._stop = stop
        self._lock = threading.Lock()
        self.marks: dict[str, Mark] = {}
        # Each that was hashed and found to hold other bytes, as it was then.
        self._refuted: dict[str, Mark] = {}

    def believe(self, wanted: Iterable[File], hashed: dict[File, Mark]) -> None:
        """Takes over what earlier runs hashed and nobody changed since."""
        self.marks = {file.path: hashed[file] for file in wanted if file in hashed}
        self._refuted = {file.path: mark for file, mark in hashed.items() if file.path not in self.marks}

    def candidates(self, files: list[File]) -> list[File]:
        """Those in whose places something of the right size stands that is not known to be other bytes."""
        marks = self._volume.marks(file.path for file in files)
        return [file for file in files if self._may_be(file, marks[file.path])]

    def is_good(self, file: File) -> bool:
        """Hashes what stands in a file's place, and proves it where it is the file."""
        mark = self._volume.mark(file.path)
        descriptor = self._volume.open(file.path)
        with naming(file.path):
            try:
                digest = self.hash(descriptor, file.size)
            finally:
                os.close(descriptor)
        right = digest is not None and digest.hexdigest() == file.sha256
        if right and mark is not None and self._volume.mark(file.path) == mark:
            self.prove(file, mark)
            return True
        if mark is not None:
            self._refuted[file.path] = mark
            with self._lock:
                self._journal.append([(file, None)])
        print(f"{file.path} on the volume {'holds other bytes' if digest else 'cannot be read'}", flush=True)
        self._progress.hash(-file.size if digest else 0)
        return False

    def hash(self, descriptor: int, length: int) -> Sha256 | None:
        """Hashes what is stored of a file, and counts it; None, and nothing counted, where it cannot be read so far."""
        done = 0

        def on_bytes(count: int) -> None:
            nonlocal done
            if self._stop.is_set():
                raise Stopped()
            done += count
            self._progress.hash(count)

        digest = hash_stored(descriptor, length, on_bytes)
        if digest is None:
            self._progress.hash(-done)
        return digest

    def prove(self, file: File, mark: Mark) -> None:
        """`mark` is of the file whose bytes were hashed: by now another one may have its name."""
        self.prove_all({file: mark})

    def prove_all(self, marks: dict[File, Mark]) -> None:
        """The same of many files."""
        with self._lock:
            new = sum(file.path not in self.marks for file in marks)
            self._journal.append(list(marks.items()))
            self.marks.update({file.path: mark for file, mark in marks.items()})
        self._progress.finish(new)

    def _may_be(self, file: File, mark: Mark | None) -> bool:
        return mark is not None and mark.size == file.size and mark != self._refuted.get(file.path)

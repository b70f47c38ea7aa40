"""Checks the bucket against its evidence: `names`, `sizes`, or `hashes`, for which every object is read once."""

import threading
from collections.abc import Callable

from digest import Sha256
from evidence import File, is_reserved
from failure import Again, Failure
from progress import Progress
from refusal import unreadable
from settings import Settings
from spaces import Spaces, Stored
from spaces_copy import SpacesCopy
from verify import check_revision, outcome
from web import Web
from window import Part, Sink, Transfer, Window, part_size


class Misread(Again):
    """The bytes that came are not those of the evidence, which may be the way's fault."""


class HashSink(Sink):
    """Compares the hash of one object, that of a second reading where the first differs; nothing is kept."""

    def __init__(self, file: File, wrong: set[str], again: Callable[[], Transfer] | None) -> None:
        self._file = file
        self._wrong = wrong
        self._again = again

    def accept(self, part: Part) -> None:
        """Nothing to do before the part's turn."""

    def proceed(self, part: Part, digest: Sha256) -> None:
        """Nothing to do but the hash."""

    def drop(self) -> None:
        """Nothing is held."""

    def finish(self, sha256: str) -> None:
        """Notes an object whose bytes are not those of the evidence."""
        if sha256 != self._file.sha256:
            if self._again is not None:
                raise Misread(self._file.path)
            self._wrong.add(self._file.path)

    def restart(self, error: Again) -> Transfer | None:
        """Where it was replaced while it was read, or cannot be read, it is not what was listed."""
        if isinstance(error, Misread) and self._again is not None:
            return self._again()
        self._wrong.add(self._file.path)
        return None


class VerifySpaces:
    """One check of one model's prefix."""

    def __init__(self, settings: Settings, progress: Progress, stop: threading.Event) -> None:
        self._settings = settings
        self._progress = progress
        self._stop = stop
        self._spaces = Spaces(settings, Web(stop), stop)

    def run(self) -> dict[str, object]:
        """Compares; gives the termination message's fields. Raises Mismatch, or Failure("no-evidence")."""
        self._progress.enter("planning")
        copy = SpacesCopy(self._spaces, self._settings)
        evidence = copy.read_evidence()
        if evidence.model != self._settings.model:
            where = f"s3://{self._settings.bucket}/{self._settings.prefix}"
            raise Failure("no-evidence", f"{where} has the evidence of {evidence.model}")
        check_revision("Spaces", evidence, self._settings.asked_revision)
        self._progress.expect(len(evidence.files), evidence.size)
        objects = self._spaces.listing().objects
        written = copy.found[1]
        missing = [file.path for file in evidence.files if file.path not in objects]
        held = [file for file in evidence.files if file.path in objects]
        wrong = {file.path for file in held if self._settings.level != "names" and objects[file.path].size != file.size}
        right = [file for file in held if file.path not in wrong]
        # An object that is not older than the evidence was replaced behind it: its size alone says nothing.
        hashed = {
            "names": [],
            "sizes": [file for file in right if objects[file.path].modified >= written],
            "hashes": right,
        }[self._settings.level]
        self._progress.enter("hashing" if hashed else "checking")
        self._progress.hash(sum(file.size for file in right) - sum(file.size for file in hashed))
        self._hash(hashed, objects, wrong)
        self._progress.finish(len(held) - len(wrong))
        if missing or wrong:
            copy.demand_same()
        listed = {file.path for file in evidence.files}
        unknown = sorted(key for key in objects if key not in listed and not is_reserved(key))
        return outcome("Spaces", evidence, self._settings.level, missing, sorted(wrong), unknown)

    def _hash(self, files: list[File], objects: dict[str, Stored], wrong: set[str]) -> None:
        empty = Sha256().hexdigest()
        wrong |= {file.path for file in files if file.size == 0 and file.sha256 != empty}
        window = Window(self._settings.buffer, self._stop, hash_parts=False)
        window.run(self._transfer(file, objects[file.path], wrong) for file in files if file.size)

    def _transfer(self, file: File, stored: Stored, wrong: set[str], *, second: bool = False) -> Transfer:
        def again() -> Transfer:
            return self._transfer(file, stored, wrong, second=True)

        return Transfer(
            size=file.size,
            part_size=part_size(file.size, self._settings.buffer),
            source=lambda start, view, on_chunk: self._spaces.fetch(file.path, stored, start, view, on_chunk),
            sink=HashSink(file, wrong, None if second else again),
            on_bytes=self._progress.hash,
            on_failure=unreadable(file.path),
        )

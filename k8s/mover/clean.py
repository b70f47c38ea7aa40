"""Removes a model's copy on the volume: the evidence first, then what was ever listed as the model's, and nothing else.

Without CONFIRMED=true it only says what it would remove. A kill at any point loses nothing: evidence out of force and the
journal have the paths, and go last. Hop 2 reads them too, should the model be staged again instead. No step needs room.
"""

import os
import threading
from collections.abc import Set
from dataclasses import dataclass

from download_journal import JOURNAL, RETIRED, DownloadJournal
from evidence import DOWNLOAD_SENTINEL, PARTIAL, Evidence, accept_evidence
from failure import Failure
from partials import Partials
from progress import Progress, counted, human
from settings import Settings
from verify import named
from volume import Volume


@dataclass(frozen=True)
class Holding:
    """What one side holds: the model's files (path -> bytes), the tool's own leftovers, and what is nobody's and stays."""

    evidence: Evidence | None
    listed: set[str]
    files: dict[str, int]
    leftovers: list[str]
    left: list[str]

    def report(self, side: str, confirmed: bool) -> dict[str, object]:
        """Says it in the log; gives the termination message's fields. `files` and `bytes` are what is (to be) removed."""
        size = sum(self.files.values())
        verb = "removed" if confirmed else "to be removed"
        own = f"{counted(len(self.leftovers))} of this tool's own"
        print(f"{verb} from {side}: {counted(len(self.files))} of the model, {human(size)}; {own}", flush=True)
        for path in self.left:
            print(f"left alone {path}: nothing lists it as the model's", flush=True)
        return {
            "commit": self.evidence.commit if self.evidence else "",
            "files": len(self.files),
            "bytes": size,
            "leftovers": len(self.leftovers),
            **named("unknown", self.left),
        }

    def check_gone(self, side: str, there: Set[str]) -> None:
        """Holds a removal to what is there afterwards. Raises Failure("not-removed")."""
        if again := sorted(there & (self.files.keys() | set(self.leftovers))):
            raise Failure(
                "not-removed", f"there again: {len(again)} of what was removed from {side}, such as {again[0]}"
            )


def read_evidence(body: bytes | None, name: str, model: str) -> Evidence | None:
    """The evidence, where the document is one of this model."""
    return None if body is None else accept_evidence(body, name, model, "it lists no file as the model's")


class Clean:
    """One removal of one model's folder."""

    def __init__(self, settings: Settings, progress: Progress, stop: threading.Event) -> None:
        self._settings = settings
        self._progress = progress
        self._volume = Volume(settings.models_dir, settings.model)
        self._journal = DownloadJournal(self._volume)
        self._partials = Partials(self._volume)

    def run(self) -> dict[str, object]:
        """Looks, and removes when that is confirmed; gives the termination message's fields. Raises Failure."""
        self._progress.enter("planning")
        holding = self._look()
        self._progress.expect(len(holding.files), 0)
        if self._settings.confirmed:
            self._progress.enter("removing")
            self._remove(holding)
            # A partial that is there still is held by a run that is alive.
            there = {path for path in self._volume.files() if not PARTIAL.search(path)}
            holding.check_gone("the volume", there)
        return holding.report("the volume", self._settings.confirmed)

    def _look(self) -> Holding:
        found = self._volume.read(DOWNLOAD_SENTINEL)
        evidence = read_evidence(found[0] if found else None, DOWNLOAD_SENTINEL, self._settings.model)
        listed = self._journal.paths()
        listed |= {file.path for file in evidence.files} if evidence else set()
        there = set(self._volume.files())
        # Only a partial of what is listed: a model `org` would otherwise take those of `org/name` for its own.
        own = listed | {DOWNLOAD_SENTINEL}
        leftovers = {path for path in there if PARTIAL.search(path) and PARTIAL.sub("", path) in own}
        leftovers |= there & {JOURNAL, RETIRED}
        # A folder that was closed, or became a link, may hold them still: this says so before anything changes.
        for path in listed - there:
            if any(parent in there for parent in _folders(path)):
                self._volume.status(path)
        if listed:
            leftovers |= there & {DOWNLOAD_SENTINEL}
        files = {path: status.st_size for path in listed & there if (status := self._volume.status(path))}
        return Holding(evidence, listed, files, sorted(leftovers), sorted(there - leftovers - files.keys()))

    def _remove(self, holding: Holding) -> None:
        volume = self._volume
        if holding.evidence:
            self._journal.retire_evidence()
        elif holding.listed:
            volume.remove(DOWNLOAD_SENTINEL)
            volume.sync_folder(volume.folder)
        for path in holding.files:
            volume.remove(path)
            self._progress.finish()
        for path in holding.leftovers:
            # A run in another cluster may be alive: it holds its partials.
            if PARTIAL.search(path):
                self._partials.discard(path)
            elif path not in (JOURNAL, RETIRED):
                volume.remove(path)
        for path in {os.path.dirname(path): path for path in holding.listed}.values():
            volume.remove_parents(path)
        for folder in sorted({(volume.folder / path).parent for path in holding.files}):
            if folder.is_dir():
                volume.sync_folder(folder)
        self._journal.remove()
        volume.remove_empty()


def _folders(path: str) -> list[str]:
    """The folders above a path, up to the model's."""
    segments = path.split("/")
    return ["/".join(segments[:count]) for count in range(1, len(segments))]

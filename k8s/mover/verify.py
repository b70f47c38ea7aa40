"""Checks the volume against its evidence, read-only and with nothing but the standard library.

`names`: every file is there. `sizes`: with its size. `hashes`: with its bytes, read from the server and not from this
node's page cache as far as the kernel lets us ask for that.
"""

import os
import threading

from descriptor import drop_cache, hash_descriptor
from evidence import DOWNLOAD_SENTINEL, Evidence, File, NotEvidence, demand_evidence
from failure import Failure, Stopped
from mark import Mark, is_newer
from progress import Progress
from settings import Settings
from volume import Volume, naming

NAMED = 12
MEND = {
    "the volume": "run make model-to-nfs for this model; with ARGS=--repair it trusts no file that it has not hashed again",
    "Spaces": "run make model-to-spaces for this model; with ARGS=--repair it trusts no object that it has not read again",
}
OTHER_REVISION = {
    "the volume": "run make setup-model to stage it, or ask for the revision that is there",
    "Spaces": "run make model-to-spaces to stage it there, or ask for the revision that is there",
}


class Mismatch(Failure):
    """The volume and its evidence disagree; the paths go into the termination message."""

    def __init__(self, detail: str, missing: list[str], wrong: list[str], unknown: list[str], mend: str) -> None:
        super().__init__("mismatch", detail, next=mend)
        self.fields = {**named("missing", missing), **named("wrong", wrong), **named("unknown", unknown)}


def named(label: str, paths: list[str]) -> dict[str, object]:
    """The first paths for the termination message, which holds no more, and how many there are."""
    return {label: paths[:NAMED], f"{label}_files": len(paths)}


def outcome(
    side: str, evidence: Evidence, level: str, missing: list[str], wrong: list[str], unknown: list[str]
) -> dict[str, object]:
    """Names every file that is missing, wrong or unknown in the log; gives the termination message's fields.

    Raises Mismatch where files are missing or wrong. Unknown ones are only named: they may be somebody's.
    """
    for label, paths in (("missing", missing), ("wrong", wrong), ("unknown", unknown)):
        for path in paths:
            print(f"{label} {path}", flush=True)
    if missing or wrong:
        counts = [f"{len(paths)} {label}" for label, paths in (("missing", missing), ("wrong", wrong)) if paths]
        detail = f"of {len(evidence.files)} files in {side} {' and '.join(counts)}, such as {(missing or wrong)[0]}"
        raise Mismatch(detail, missing, wrong, unknown, MEND[side])
    return {
        "commit": evidence.commit,
        "revision": evidence.revision,
        "files": len(evidence.files),
        "bytes": evidence.size,
        "level": level,
        **named("unknown", unknown),
    }


def check_revision(side: str, evidence: Evidence, asked: str | None) -> None:
    """Raises Failure("other-evidence") where another revision than the one that stands there was asked for."""
    if asked not in (None, evidence.revision, evidence.commit):
        raise Failure(
            "other-evidence",
            f"{side} holds revision {evidence.revision} (commit {evidence.commit[:8]}) of {evidence.model}, "
            f"{asked} was asked for",
            next=OTHER_REVISION[side],
        )


class Verify:
    """One check of one model's folder."""

    def __init__(self, settings: Settings, progress: Progress, stop: threading.Event) -> None:
        self._settings = settings
        self._progress = progress
        self._stop = stop
        self._volume = Volume(settings.models_dir, settings.model)

    def run(self) -> dict[str, object]:
        """Compares; gives the termination message's fields. Raises Mismatch, or Failure("no-evidence")."""
        self._progress.enter("planning")
        found = self._volume.read(DOWNLOAD_SENTINEL)
        where = f"{self._settings.model} on the volume"
        again = "run make model-to-nfs for this model"
        if found is None:
            raise Failure(
                "no-evidence", f"{where} has no {DOWNLOAD_SENTINEL}: it was not staged completely", next=again
            )
        try:
            evidence = demand_evidence(found[0], self._settings.model)
        except NotEvidence as error:
            raise Failure(
                "no-evidence", f"{DOWNLOAD_SENTINEL} of {where} proves nothing: {error}", next=again
            ) from error
        check_revision("the volume", evidence, self._settings.asked_revision)
        self._written = found[1]
        self._progress.expect(len(evidence.files), evidence.size)
        self._progress.enter("hashing" if self._settings.level == "hashes" else "checking")
        marks = {file: self._volume.mark(file.path) for file in evidence.files}
        missing = [file.path for file, mark in marks.items() if mark is None]
        wrong = [file.path for file, mark in marks.items() if mark is not None and not self._agrees(file, mark)]
        unknown = self._volume.unknown({file.path for file in evidence.files})
        self._demand_same(*found)
        return outcome("the volume", evidence, self._settings.level, missing, wrong, unknown)

    def _demand_same(self, body: bytes, status: os.stat_result) -> None:
        """What was looked at stands under evidence that stands still. Raises Failure("volume-io")."""
        now = self._volume.read(DOWNLOAD_SENTINEL)
        if now is None or (now[0], now[1].st_ino, now[1].st_mtime_ns) != (body, status.st_ino, status.st_mtime_ns):
            raise Failure(
                "volume-io",
                f"{self._settings.model} on the volume was changed while it was checked",
                next="check it again when no other run works on this model",
            )

    def _agrees(self, file: File, mark: Mark) -> bool:
        good = self._settings.level == "names" or mark.size == file.size
        if good and (self._settings.level == "hashes" or self._is_newer(file)):
            good = self._hash(file) == file.sha256
        elif good:
            self._progress.hash(file.size)
        if good:
            self._progress.finish()
        return good

    def _is_newer(self, file: File) -> bool:
        """Whether a file may have changed behind its evidence: then its size alone says nothing."""
        status = self._volume.status(file.path)
        return self._settings.level != "names" and status is not None and is_newer(status, self._written)

    def _hash(self, file: File) -> str:
        def on_bytes(count: int) -> None:
            if self._stop.is_set():
                raise Stopped()
            self._progress.hash(count)

        descriptor = self._volume.open(file.path)
        with naming(file.path):
            try:
                # Pages that this node holds would be hashed instead of what the server stores.
                drop_cache(descriptor, 0, 0)
                return hash_descriptor(descriptor, file.size, on_bytes).hexdigest()
            except EOFError:
                return ""
            finally:
                os.close(descriptor)

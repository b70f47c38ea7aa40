"""Hop 2: what the evidence in Spaces lists, written to the volume and proved on its way, with the same evidence last."""

import os
import threading
from hashlib import sha256 as hash_sha256

from download_journal import DownloadJournal
from evidence import DOWNLOAD_SENTINEL, PARTIAL, Evidence, File, accept_evidence
from failure import Failure
from lanes import Lanes
from large_download import LargeDownload
from mark import Mark, is_newer
from partials import Partials
from progress import Progress, counted, human
from proofs import Proofs
from refusal import UNREADABLE
from selection import DEFAULT_EXCLUDE, as_flags
from settings import Settings
from small import SMALL
from small_download import SmallDownload
from source import Source
from spaces import Listing, Spaces
from spaces_copy import SpacesCopy
from verify import check_revision
from volume import Volume
from web import Web

HASH_LANES = 2
ROUNDS = 3


class Download:
    """One run of hop 2."""

    def __init__(self, settings: Settings, progress: Progress, stop: threading.Event) -> None:
        self._settings = settings
        self._progress = progress
        self._stop = stop
        self._spaces = Spaces(settings, Web(stop), stop)
        self._copy = SpacesCopy(self._spaces, settings)
        self._volume = Volume(settings.models_dir, settings.model)
        self._journal = DownloadJournal(self._volume)
        self._partials = Partials(self._volume)
        self._proofs = Proofs(self._volume, self._journal, progress, stop)

    def run(self) -> dict[str, object]:
        """Stages the model; gives the termination message's fields. Raises Failure."""
        self._progress.enter("planning")
        self._body, self._evidence, listing = self._read_evidence()
        self._source = Source(self._spaces, self._copy, listing, self._settings.model)
        evidence = self._evidence
        self._identity = hash_sha256(self._body).hexdigest()
        self._progress.expect(len(evidence.files), evidence.size)
        held = self._volume.read(DOWNLOAD_SENTINEL)
        model, otherwise = self._settings.model, "the files are hashed"
        old = accept_evidence(held[0], f"{DOWNLOAD_SENTINEL} on the volume", model, otherwise) if held else None
        known, unchanged = self._collect_proofs(old, held[1] if held else None)
        self._known = known | {file.path for file in evidence.files}
        if held and evidence.equals(old) and len(self._proofs.marks) == len(evidence.files) and self._is_last():
            self._finish_unchanged(held[0])
        else:
            self._change(known, unchanged)
        return {"commit": evidence.commit, "files": len(evidence.files), "bytes": evidence.size}

    # --- what there is, and what of it is proved ---

    def _read_evidence(self) -> tuple[bytes, Evidence, Listing]:
        """What Spaces proves to hold, and that it is what was asked for."""
        settings = self._settings
        evidence = self._copy.read_evidence()
        where = f"s3://{settings.bucket}/{settings.prefix}"
        if evidence.model != settings.model:
            raise Failure("other-evidence", f"{where} holds {evidence.model}, {settings.model} was asked for")
        check_revision("Spaces", evidence, settings.revision)
        excludes = ((), DEFAULT_EXCLUDE) if settings.exclude is None else (settings.exclude,)
        if evidence.include != settings.include or evidence.exclude not in excludes:
            raise Failure(
                "other-evidence",
                f"Spaces holds the files of {as_flags(evidence.include, evidence.exclude)}, "
                f"those of {as_flags(settings.include, excludes[-1])} were asked for",
            )
        listing = self._spaces.listing()
        wrong = [
            f.path for f in evidence.files if f.path not in listing.objects or listing.objects[f.path].size != f.size
        ]
        if wrong:
            self._copy.demand_same()
            raise Failure(
                "spaces-incomplete",
                f"{len(wrong)} of {len(evidence.files)} objects are missing or cut in Spaces, such as {wrong[0]}",
            )
        says = f"commit {evidence.commit}, {counted(len(evidence.files))}, {human(evidence.size)}"
        print(says, flush=True)
        return self._copy.found[0], evidence, listing

    def _collect_proofs(
        self, old: Evidence | None, written: os.stat_result | None
    ) -> tuple[set[str], list[tuple[File, Mark]]]:
        """Marks what is proved; gives every path that was ever ours, and the old files that still are as they were proved."""
        proofs, known = self._journal.read()
        unchanged: list[tuple[File, Mark]] = []
        for file in old.files if old and written else ():
            known.add(file.path)
            status, mark = self._volume.status(file.path), self._volume.mark(file.path)
            if status is None or mark is None or (file.path in proofs and proofs[file.path][1] == mark):
                # What was hashed as it stands there says more than that nothing changed since some document was written.
                continue
            # Hashed again, and then the evidence is written anew: so a chown -R costs that once, not with every run.
            if written and not is_newer(status, written):
                proofs[file.path] = (file, mark)
        for path, (file, mark) in proofs.items():
            if mark.size == file.size and self._volume.mark(path) == mark:
                unchanged.append((file, mark))
        if not self._settings.repair:
            self._proofs.believe(self._evidence.files, dict(unchanged))
        return known, unchanged

    # --- changing the volume ---

    def _finish_unchanged(self, held: bytes) -> None:
        print("already complete: the evidence on the volume holds", flush=True)
        self._progress.hash(self._evidence.size)
        self._progress.finish(len(self._evidence.files))
        if held != self._body:
            self._write_evidence(held)
        self._tidy()

    def _change(self, known: set[str], unchanged: list[tuple[File, Mark]]) -> None:
        wanted = {file.path for file in self._evidence.files}
        missing = [file for file in self._evidence.files if file.path not in self._proofs.marks]
        gone = sorted(known - wanted)
        folders = {os.path.dirname(file.path): file.path for file in missing}.values()
        for path in folders:
            self._volume.check_parents(path, removed=gone)
        self._discard_partials({self._partials.name(file) for file in missing})
        for path in self._volume.folders_at(file.path for file in missing):
            self._volume.check_place(path, removed=gone)
        candidates = self._proofs.candidates(missing)
        self._check_space([file for file in missing if file not in candidates], gone)
        self._partials.show_life(self._stop)
        self._volume.make_parents(DOWNLOAD_SENTINEL)
        # Only what does not stand there yet: every pod of the Job writes to the same journal. What this run does not
        # trust, the next one must not either: it may be no repair.
        proofs, journaled = self._journal.read()
        trusted = {} if self._settings.repair else {file.path: (file, mark) for file, mark in unchanged}
        bare = ((known | wanted) - journaled) | (proofs.keys() - trusted.keys())
        unsaid = [claim for path, claim in trusted.items() if proofs.get(path) != claim]
        ours = [(File(path, 0, ""), None) for path in sorted(bare)]
        try:
            self._journal.append([*ours, *unsaid], begun=self._identity)
        except Failure as failure:
            if failure.cause != "no-space" or not gone:
                raise
            # The room that was found is what goes.
            self._journal.retire_evidence()
            self._remove(gone)
            self._journal.append([*ours, *unsaid], begun=self._identity)
        self._volume.remove(DOWNLOAD_SENTINEL)
        self._volume.sync_folder(self._volume.folder)
        self._progress.hash(sum(file.size for file in self._evidence.files if file.path in self._proofs.marks))
        self._progress.finish(len(self._proofs.marks))
        self._remove(gone)
        if candidates:
            adopted = self._adopt(candidates)
            missing = [file for file in missing if file.path not in adopted]
            self._check_space(missing, [])
        self._progress.enter("moving")
        for path in folders:
            self._volume.make_parents(path)
        for path in self._volume.folders_at(file.path for file in missing):
            self._volume.clear_place(path)
        try:
            self._carry(missing)
        except Failure as failure:
            unreadable = self._source.unreadable - set(self._proofs.marks)
            if failure.cause in UNREADABLE and unreadable:
                mend = f"run the same command again; if it stays, {self._source.leave_word(unreadable)}"
                raise Failure(failure.cause, failure.detail, next=mend) from failure
            raise
        self._progress.enter("finishing")
        unknown = self._volume.unknown(wanted)
        if unknown:
            print(f"left alone: {len(unknown)} files that no evidence lists, such as {unknown[0]}", flush=True)
        self._write_evidence()
        self._tidy()

    def _remove(self, gone: list[str]) -> None:
        while gone:
            path = gone.pop()
            print(f"removing {path}: it was of an earlier commit or filter", flush=True)
            self._volume.remove(path)

    def _carry(self, missing: list[File]) -> None:
        tools = (self._source, self._partials, self._proofs, self._progress, self._stop)
        busy = SmallDownload(*tools).carry([file for file in missing if file.size <= SMALL])
        large = [file for file in missing if file.size > SMALL or file in busy]
        LargeDownload(*tools, self._settings.buffer).carry(large)

    def _write_evidence(self, replaced: bytes | None = None) -> None:
        """Writes it, and takes it back where the files behind it are not those that were proved, or another run has begun.

        Other evidence than what it replaces is of a run that began later, and has tidied up what said so.
        """
        alone = "run the same command again when no other run works on this model"
        for _ in range(ROUNDS):
            self._check_all()
            standing = self._volume.read(DOWNLOAD_SENTINEL)
            if standing is not None and standing[0] not in (self._body, replaced):
                raise Failure("volume-io", f"another run finished {self._evidence.model} meanwhile", next=alone)
            self._partials.write_document(DOWNLOAD_SENTINEL, self._body)
            last = self._is_last()
            if last and self._volume.marks(file.path for file in self._evidence.files) == self._proofs.marks:
                return
            standing = self._volume.read(DOWNLOAD_SENTINEL)
            if standing is not None and standing[0] == self._body:
                self._volume.remove(DOWNLOAD_SENTINEL)
            if not last:
                words = f"another run began to write other files of {self._evidence.model} meanwhile"
                raise Failure("volume-io", words, next=alone)
        raise Failure("volume-io", f"files of {self._evidence.model} on the volume keep being replaced")

    def _check_space(self, missing: list[File], gone: list[str]) -> None:
        """A replaced file stays until its successor is proved, so that it makes no room; `gone` ones go first."""
        needed = sum(file.size for file in missing)
        there = self._volume.marks([*(self._partials.name(file) for file in missing), *gone])
        needed -= sum(mark.size for mark in there.values() if mark)
        free = self._volume.free()
        if needed > free:
            raise Failure(
                "no-space",
                f"{needed} B are needed and {free} B are free on the volume ({needed / 1e9:.1f} of {free / 1e9:.1f} GB)",
            )

    def _adopt(self, candidates: list[File]) -> set[str]:
        """Hashes the files that are there; gives the paths of those that are good."""
        self._progress.enter("hashing")
        with Lanes(HASH_LANES, "hash") as lanes:
            hashed = zip(candidates, lanes.map(self._proofs.is_good, candidates), strict=True)
            return {file.path for file, good in hashed if good}

    def _check_all(self) -> None:
        """Every folder's renames last, and every file is the one that was proved, before the evidence says so."""
        self._volume.sync_above(file.path for file in self._evidence.files)
        marks = self._volume.marks(file.path for file in self._evidence.files)
        for file in self._evidence.files:
            mark = marks[file.path]
            if mark is not None and mark == self._proofs.marks.get(file.path):
                continue
            # Another run may have put its own copy there.
            self._progress.hash(-file.size)
            if mark is None or mark.size != file.size or not self._proofs.is_good(file):
                raise Failure(
                    "volume-io",
                    f"{file.path} on the volume is not as it was written: something else changes the folder",
                )

    def _tidy(self) -> None:
        self._discard_partials(set())
        # Another run's journal knows which files it has still to remove.
        if self._is_last():
            self._journal.remove()

    def _is_last(self) -> bool:
        """Whether no run for other evidence, alive or killed, has begun to change the model since."""
        return self._journal.begun() in (None, self._identity)

    def _discard_partials(self, kept: set[str]) -> None:
        """What killed runs left, of earlier commits too; a run that is alive holds its own."""
        for name in self._partials.unfinished():
            # A model `org` has the partials of `org/name` below its folder too.
            path = PARTIAL.sub("", name)
            ours = "/" in self._settings.model or path in self._known or path.startswith(".download-")
            if ours and name not in kept:
                self._partials.discard(name)

"""Hop 2: what the evidence in Spaces lists, written to the volume and proved on its way, with the same evidence last."""

import os
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256 as hash_sha256

from descriptor import STEP, write_at
from digest import Sha256
from download_journal import DownloadJournal
from evidence import (
    DOWNLOAD_SENTINEL,
    PARTIAL,
    Evidence,
    File,
    accept_evidence,
)
from failure import Again, Failure, Stopped
from lanes import Lanes
from ledger import Ledger
from mark import Mark, is_newer
from partial_sink import PartialSink, Taken, WrongBytes
from partials import Partials, allow_open_files
from progress import Progress, counted, human
from proofs import Proofs
from retry import backoff, retry
from selection import DEFAULT_EXCLUDE
from settings import Settings
from spaces import UNREADABLE, Gone, Listing, Spaces, Stored
from spaces_copy import SpacesCopy
from verify import check_revision
from volley import MOST_BYTES, Get, Missed, Volley
from volume import Volume, naming
from web import Web
from window import Transfer, Window, part_size

SMALL = 2**20
SMALL_LANES = 32
HASH_LANES = 2
# Small files that are open at a time.
BATCH = 512
TAKEN_MOST = 3
ROUNDS = 3


@dataclass(frozen=True)
class Small:
    """A small file's partial, open and locked; `whole` where a killed run has written it to its end."""

    file: File
    descriptor: int
    whole: bool


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
        self._unreadable: set[str] = set()
        self._attempts: Counter[str] = Counter()
        self._resumed: Counter[str] = Counter()
        self._shortened: set[str] = set()
        self._taken: Counter[str] = Counter()

    def run(self) -> dict[str, object]:
        """Stages the model; gives the termination message's fields. Raises Failure."""
        self._progress.enter("planning")
        self._body, self._evidence, self._listing = self._read_evidence()
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
                f"Spaces holds the files of include {list(evidence.include)} exclude {list(evidence.exclude)}, "
                f"include {list(settings.include)} exclude {list(excludes[-1])} was asked for",
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
            busy = self._carry_small(_spread([file for file in missing if file.size <= SMALL]))
            self._carry_large([file for file in missing if file.size > SMALL or file in busy])
        except Failure as failure:
            unreadable = self._unreadable - set(self._proofs.marks)
            if failure.cause in UNREADABLE and unreadable:
                mend = f"run the same command again; if it stays, {self._leave_word(unreadable)}"
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

    # --- small files ---

    def _carry_small(self, files: list[File]) -> set[File]:
        """Opens many, writes them, then makes them last and puts them in place: the waits for the disk overlap.

        Gives those that another run is writing. They are left for later: who waits must hold nothing the other waits for.
        """
        allow_open_files(BATCH)
        busy: set[File] = set()
        volley = Volley(self._spaces.connect, self._ask_small, self._take_small, self._stop)
        with Lanes(SMALL_LANES, "small") as lanes:
            for start in range(0, len(files), BATCH):
                batch = files[start : start + BATCH]
                opened = lanes.map(self._open_small, batch)
                ours = [small for small in opened if small is not None]
                missing = [small for small in ours if not small.whole]
                left, reason = volley.fetch([small for small in missing if small.file.size <= MOST_BYTES], lanes)
                if reason is not None:
                    self._rest(left, reason)
                lanes.map(self._write_small, left + [small for small in missing if small.file.size > MOST_BYTES])
                placed = zip(ours, lanes.map(self._finish_small, ours), strict=True)
                marks = {small.file: mark for small, mark in placed if mark is not None}
                self._proofs.prove_all(marks)
                busy |= set(batch) - marks.keys()
        return busy

    def _finish_small(self, small: Small) -> Mark | None:
        """None when another run took the partial away."""
        with naming(small.file.path):
            try:
                os.fsync(small.descriptor)
            except OSError:
                os.ftruncate(small.descriptor, 0)
                raise
        return self._partials.place(small.file, small.descriptor)

    def _rest(self, left: list[Small], reason: Missed) -> None:
        """Says why not all came, and leaves Spaces alone as behind any other failure."""
        wait = backoff(1, reason.retry_after)
        says = f"asking with more care for {counted(len(left))} in {wait:.1f} s"
        print(f"{says}, {left[0].file.path} first: {reason}", flush=True)
        if self._stop.wait(wait):
            raise Stopped()

    def _open_small(self, file: File) -> Small | None:
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
            return self._open_small(file)
        return Small(file, descriptor, whole=False)

    def _ask_small(self, small: Small) -> Get:
        return self._spaces.whole(small.file.path, self._listing.objects[small.file.path])

    def _take_small(self, small: Small, body: memoryview) -> bool:
        """Writes the bytes, if they are the file's; where other ones come again, Spaces is to blame."""
        file = small.file
        sha256 = hash_sha256(body).hexdigest()
        if sha256 != file.sha256:
            self._attempts[file.path] += 1
            if self._attempts[file.path] > 1:
                raise self._suspect(file, f"{file.path}: SHA-256 {file.sha256} is in the evidence, {sha256} came")
            return False
        with naming(file.path):
            write_at(small.descriptor, body, 0)
        self._progress.move(file.path, file.size)
        return True

    def _write_small(self, small: Small) -> None:
        """One that did not come with the others."""
        file, stored = small.file, self._listing.objects[small.file.path]
        body = memoryview(bytearray(file.size))
        taken = False
        while not taken:
            try:
                retry(lambda: self._fetch(file, stored, 0, body, _ignore), self._stop)
            except Gone as error:
                raise self._changed(file) from error
            taken = self._take_small(small, body)

    # --- large files ---

    def _carry_large(self, files: list[File]) -> None:
        allow_open_files(len(files))
        flusher = ThreadPoolExecutor(4, thread_name_prefix="flush")
        window = Window(self._settings.buffer, self._stop, hash_parts=False)
        self._flusher = flusher
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
        size = part_size(file.size, self._settings.buffer)
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
        stored = self._listing.objects[file.path]
        return Transfer(
            size=file.size,
            part_size=size,
            source=lambda start, view, on_chunk: self._fetch(file, stored, start, view, on_chunk),
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
            raise self._changed(file) from error
        resumed = self._resumed.pop(file.path, 0)
        self._progress.hash(-resumed)
        if isinstance(error, Taken):
            return self._retake(file)
        self._attempts[file.path] += 0 if resumed else 1
        if isinstance(error, WrongBytes) and self._attempts[file.path] > 1:
            raise self._suspect(file, str(error))
        print(f"fetching {file.path} again: {error}", flush=True)
        size = part_size(file.size, self._settings.buffer)
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

    # --- what is wrong in Spaces ---

    def _fetch(
        self, file: File, stored: Stored, start: int, view: memoryview, on_chunk: Callable[[memoryview], None]
    ) -> None:
        try:
            self._spaces.fetch(file.path, stored, start, view, on_chunk)
        except Failure as failure:
            if failure.cause in UNREADABLE:
                self._unreadable.add(file.path)
            raise

    def _suspect(self, file: File, words: str) -> Failure:
        self._copy.demand_same()
        mend = self._leave_word({file.path})
        return Failure("wrong-bytes", f"Spaces holds other bytes than its evidence lists: {words}", next=mend)

    def _leave_word(self, paths: set[str]) -> str:
        """Tells hop 1, which would otherwise trust its evidence, and gives the way out in words."""
        try:
            Ledger(self._spaces, self._settings.model).write_suspects(paths)
        except Failure as failure:
            print(f"could not leave word for the upload: {failure.detail}", flush=True)
            return "run make model-to-spaces with --repair for this model: it reads every object back"
        return "run make model-to-spaces for this model: it reads the object back and moves it again"

    def _changed(self, file: File) -> Failure:
        return Failure("spaces-unsteady", f"{file.path} in Spaces was replaced or removed while it was read")


def _spread(files: list[File]) -> list[File]:
    """The files of each folder as far apart as can be: a folder takes in one file at a time, and the others would wait for it."""
    before: Counter[str] = Counter()
    turns: dict[File, int] = {}
    for file in files:
        folder = os.path.dirname(file.path)
        turns[file] = before[folder]
        before[folder] += 1
    return sorted(files, key=turns.__getitem__)


def _ignore(piece: memoryview) -> None:
    """Small files are counted when they are there."""

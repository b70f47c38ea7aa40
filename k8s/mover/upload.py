"""Hop 1: the Hub's files at one commit, streamed into Spaces, proved on their way, with the evidence written last."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from claim import Claim, read_sentinel
from digest import Sha256, multipart_etag
from evidence import UPLOAD_SENTINEL, Evidence, check_paths, is_reserved
from failure import Again, Failure, Stopped
from hub import Hub, HubFile
from ledger import ABANDONED_SECONDS, PLAN, SUSPECT, Journal, Ledger, Plan, Proof
from multipart import MultipartSink, ReadBackSink, Uploader, WrongBytes, join, source_of, wrong_bytes
from progress import Progress, counted, human
from selection import effective_exclude, is_selected
from settings import Settings
from small import SMALL
from small_upload import SmallUpload
from spaces import PARTS_LIMIT, Gone, Listing, Spaces, Stored, Unreadable, unreadable
from web import Web
from window import Transfer, Window, part_size

ROUNDS = 3
# How often the server's clock is read while a second passes, and how long at most: object times may be ahead of it.
CLOCK_SECONDS = 0.1
REST_SECONDS = 3.0


@dataclass(frozen=True)
class Survey:
    """What there is before anything changes: the commit's files that are wanted and left out, and what Spaces holds."""

    commit: str
    wanted: list[HubFile]
    left_out: list[HubFile]
    exclude: tuple[str, ...]
    proofs: dict[str, Proof]
    listing: Listing
    old: Evidence | None
    plan: Plan | None
    sentinel: tuple[bytes, datetime] | None

    @property
    def size(self) -> int:
        """Bytes of the wanted files."""
        return sum(file.size for file in self.wanted)


class Upload:
    """One run of hop 1."""

    def __init__(self, settings: Settings, progress: Progress, stop: threading.Event) -> None:
        self._settings = settings
        self._progress = progress
        self._stop = stop
        web = Web(stop)
        self._hub = Hub(settings, web, stop)
        self._spaces = Spaces(settings, web, stop)
        self._ledger = Ledger(self._spaces, settings.model)
        self._lock = threading.Lock()
        self._proofs: dict[str, Proof] = {}
        self._stale: set[str] = set()
        self._attempts: Counter[tuple[str, type[Again]]] = Counter()
        self._resumed: Counter[str] = Counter()

    def run(self) -> dict[str, object]:
        """Stages the model; gives the termination message's fields. Raises Failure."""
        survey = self.survey()
        if survey.old is not None and self._is_complete(survey.old):
            self._finish_unchanged(survey.old, survey)
        else:
            self._change(survey)
        return {"commit": self._commit, "files": len(self._wanted), "bytes": survey.size}

    def survey(self) -> Survey:
        """Looks at the Hub and the bucket without changing either. Raises Failure."""
        self._progress.enter("planning")
        sentinel = self._spaces.read(UPLOAD_SENTINEL)
        listing = self._spaces.listing()
        plan = self._ledger.read_plan()
        old = read_sentinel(sentinel[0] if sentinel else None, self._settings.model)
        left_out = self._choose(self._settle_commit(old, plan))
        # Every path that was ever ours.
        self._known = {file.path for file in old.files} if old else set()
        self._known |= set(plan.known) if plan else set()
        written = sentinel[1] if sentinel and not _is_late(old, plan, listing) else None
        self._collect_proofs(old, written, plan, listing)
        wanted = list(self._wanted.values())
        survey = Survey(self._commit, wanted, left_out, self._exclude, dict(self._proofs), listing, old, plan, sentinel)
        self._progress.expect(len(wanted), survey.size)
        there = sum(proof.size for proof in survey.proofs.values())
        says = f"commit {survey.commit}, {counted(len(wanted))}, {human(survey.size)}"
        if 0 < there < survey.size:
            says += f"; {human(there)} there, {human(survey.size - there)} to move"
        if left_out:
            by = " ".join(["include", *self._include] if self._include else ["exclude", *self._exclude])
            says += f"; left out {counted(len(left_out))}, {human(sum(file.size for file in left_out))}, by {by}"
        print(says, flush=True)
        return survey

    def probe(self, survey: Survey) -> None:
        """Asks for access to the largest file that has to be fetched, before anything changes. Raises Failure."""
        objects = survey.listing.objects
        to_fetch = [
            file
            for file in survey.wanted
            if file.path not in survey.proofs and not self._may_hold(file, objects.get(file.path))
        ]
        if to_fetch:
            self._hub.probe(survey.commit, max(to_fetch, key=lambda file: file.size))

    # --- what there is, and what of it is proved ---

    def _settle_commit(self, old: Evidence | None, plan: Plan | None) -> str:
        """The commit of a retry's first pod; of what is repaired, for mending is no update; else what the Hub says now."""
        if plan and self._belongs_to_us(plan):
            return plan.commit
        if old and self._settings.repair and old.revision == self._settings.revision:
            return old.commit
        return self._hub.resolve(self._settings.revision)

    def _belongs_to_us(self, plan: Plan) -> bool:
        """A retry of the same Job stays at the commit that its first pod resolved, whatever the branch does."""
        own = (self._settings.job_uid, self._settings.revision)
        return plan.job != "" and (plan.job, plan.revision) == own

    def _choose(self, commit: str) -> list[HubFile]:
        files = self._hub.files(commit)
        self._commit = commit
        self._include = self._settings.include
        self._exclude = effective_exclude(self._settings.exclude, [file.path for file in files])
        wanted = [file for file in files if is_selected(file.path, self._include, self._exclude)]
        check_paths(file.path for file in wanted)
        self._wanted = {file.path: file for file in wanted}
        left_out = [file for file in files if file.path not in self._wanted]
        if not self._wanted:
            reason = f"the filter leaves out all {len(files)} files" if files else "has no files"
            raise Failure("empty-listing", f"{self._settings.model} at {commit[:8]}: {reason}")
        self._claim = Claim(self._settings, self._spaces, self._ledger, commit, self._include, self._exclude)
        return left_out

    def _collect_proofs(
        self, old: Evidence | None, written: datetime | None, plan: Plan | None, listing: Listing
    ) -> None:
        """From the evidence, the plan and the journals; never for what hop 2 suspects, and for nothing when repairing."""
        self._journals = self._ledger.read_journals(listing.objects)
        if self._settings.repair:
            return
        proofs: dict[str, Proof] = dict(plan.proofs) if plan else {}
        for journal in self._journals.values():
            if journal.sha256:
                proofs[journal.path] = Proof(journal.size, journal.sha256, multipart_etag(journal.etags) or "")
        for file in old.files if old else ():
            stored = listing.objects.get(file.path)
            # Object times are whole seconds. The evidence is written in a later one than its objects, so that an
            # object of the same second was replaced behind our back.
            if stored and written and stored.size == file.size and stored.modified < written:
                wanted = self._wanted.get(file.path) if old and old.commit == self._commit else None
                blob = wanted.blob if wanted else ""
                proofs[file.path] = Proof(file.size, file.sha256, stored.etag, blob)
        suspects = self._ledger.read_suspects() if SUSPECT in listing.objects else set()
        for path, file in self._wanted.items():
            proof = proofs.get(path)
            if proof is None or path in suspects or not proof.covers(listing.objects.get(path)):
                continue
            if _agrees(proof, file):
                self._proofs[path] = replace(proof, blob=file.blob)
            elif file.sha256 is not None:
                # Known to be other bytes, of an earlier commit: reading them back could prove nothing.
                self._stale.add(path)

    def _is_complete(self, old: Evidence) -> bool:
        """Whether the evidence is true: same commit and filter, and each of exactly its files still proved."""
        return len(self._proofs) == len(self._wanted) and old.equals(self._claim.evidence(self._proofs))

    # --- changing the bucket ---

    def _finish_unchanged(self, old: Evidence, survey: Survey) -> None:
        listing = survey.listing
        print("already complete: the evidence in Spaces holds", flush=True)
        self._progress.hash(old.size)
        self._progress.finish(len(old.files))
        written = survey.sentinel[1] if survey.sentinel else None
        # Evidence that is not newer than an object proves nothing of it; what did is about to be cleared away.
        outdated = written is None or any(listing.objects[path].modified >= written for path in self._wanted)
        if outdated or old.revision != self._settings.revision:
            self._write_plan()
            listing = self._write_evidence(listing)
        self._abort_abandoned(listing)
        self._clear(survey, listing)

    def _write_plan(self) -> None:
        self._claim.write_plan(self._proofs, self._known | self._wanted.keys())

    def _change(self, survey: Survey) -> None:
        listing = survey.listing
        self.probe(survey)
        self._write_plan()
        self._claim.withdraw_evidence(survey.sentinel)
        self._progress.hash(sum(proof.size for proof in self._proofs.values()))
        self._progress.finish(len(self._proofs))
        listing = self._prove_all(listing)
        self._progress.enter("finishing")
        self._report_unknown(listing)
        self._remove_old(listing)
        listing = self._write_evidence(listing)
        self._abort_abandoned(listing)
        self._clear(survey, listing)

    def _remove_old(self, listing: Listing) -> None:
        """Removes what only an earlier commit or filter had: a server would load both."""
        paths = sorted(path for path in self._known - self._wanted.keys() if path in listing.objects)
        if paths:
            self._claim.check(self._proofs)
        for path in paths:
            print(f"removing {path}: it was of an earlier commit or filter", flush=True)
            self._spaces.delete(path)

    def _clear(self, survey: Survey, listing: Listing) -> None:
        """Removes what this and earlier runs left, and nothing that another run has left for itself."""
        if not self._claim.may_clear(listing):
            return
        # A suspect that was named while this run worked has not been looked at.
        suspect = survey.listing.objects.get(SUSPECT)
        kept = {SUSPECT} if suspect is None or suspect != listing.objects.get(SUSPECT) else set()
        self._ledger.clear({key: value for key, value in listing.objects.items() if key not in kept})
        if PLAN not in listing.objects:
            return
        # While it was there, a run that was late with a write left that for this one to see.
        listing = self._spaces.listing()
        if not self._holds(listing):
            self._claim.check(self._proofs)
            # The plan first: without either, nobody would know what was ever ours.
            self._write_plan()
            self._spaces.delete(UPLOAD_SENTINEL)
            raise self._replaced()
        self._remove_old(listing)

    def _replaced(self) -> Failure:
        return Failure("spaces-unsteady", f"objects of {self._settings.model} in Spaces keep being replaced")

    def _holds(self, listing: Listing) -> bool:
        """Whether every object is still the one that was proved."""
        return all(proof.covers(listing.objects.get(path)) for path, proof in self._proofs.items())

    def _write_evidence(self, listing: Listing) -> Listing:
        """Writes it, and takes it back where the objects are not those that were proved; gives the listing behind it."""
        for _ in range(ROUNDS):
            self._await_rest(listing)
            self._claim.put_evidence(self._proofs)
            listing = self._spaces.listing()
            if self._holds(listing):
                return listing
            self._spaces.delete(UPLOAD_SENTINEL)
            listing = self._prove_all(listing)
        raise self._replaced()

    def _prove_all(self, listing: Listing) -> Listing:
        """Moves or reads back until a fresh listing shows every object as it was proved; gives that listing."""
        for attempt in range(ROUNDS):
            if attempt:
                # What changed may be another run's work, which this one must not undo.
                self._claim.check(self._proofs)
            missing = [file for path, file in self._wanted.items() if path not in self._proofs]
            if missing:
                self._progress.enter("moving")
            self._carry_small([file for file in missing if file.size <= SMALL], listing)
            self._carry_large([file for file in missing if file.size > SMALL], listing)
            listing = self._spaces.listing()
            for path, proof in list(self._proofs.items()):
                stored = listing.objects.get(path)
                if not proof.covers(stored):
                    print(f"{path} changed in Spaces while this run worked: looking at it again", flush=True)
                    del self._proofs[path]
                    self._progress.hash(-proof.size)
                    self._progress.finish(-1)
            if len(self._proofs) == len(self._wanted):
                return listing
        path = next(path for path in self._wanted if path not in self._proofs)
        raise Failure("spaces-unsteady", f"{path} in Spaces keeps changing while it is being proved")

    def _await_rest(self, listing: Listing) -> None:
        """Until the newest object's second is over, so that one replaced from now on is not older than the evidence."""
        for _ in range(ROUNDS):
            newest = max(listing.objects[path].modified for path in self._wanted)
            over = newest.replace(microsecond=0) + timedelta(seconds=1)
            clock = listing.at
            patience = time.monotonic() + REST_SECONDS
            while clock < over and time.monotonic() < patience:
                if self._stop.wait(CLOCK_SECONDS):
                    raise Stopped()
                clock = self._spaces.clock()
            latest = self._prove_all(listing)
            if all(latest.objects[path] == listing.objects[path] for path in self._wanted):
                return
            listing = latest
        raise self._replaced()

    def _report_unknown(self, listing: Listing) -> None:
        others = listing.objects.keys() - self._wanted.keys() - self._known
        unknown = [key for key in others if not is_reserved(key)]
        if unknown:
            print(f"left alone: {len(unknown)} objects that no evidence lists, such as {min(unknown)}", flush=True)

    def _abort_abandoned(self, listing: Listing) -> None:
        ours, young = self._known | self._wanted.keys(), 0
        for upload in self._spaces.uploads():
            # A model `org` has the uploads of `org/name` under its prefix too.
            if "/" not in self._settings.model and upload.key not in ours:
                continue
            last = self._spaces.last_write(upload)
            if last is None:
                continue
            if (listing.at - last).total_seconds() > ABANDONED_SECONDS:
                print(f"aborting an abandoned upload of {upload.key}", flush=True)
                self._spaces.abort_upload(upload.key, upload.id)
            else:
                young += 1
        if young:
            print(f"young unfinished uploads that stay, as a run elsewhere may be at them: {young}", flush=True)

    def _prove(self, path: str, proof: Proof) -> None:
        with self._lock:
            self._proofs[path] = proof
        self._progress.finish()

    def _carry_small(self, files: list[HubFile], listing: Listing) -> None:
        small = SmallUpload(self._commit, self._hub, self._spaces, self._progress, self._stop, self._prove)
        there = [(file, listing.objects[file.path]) for file in files if file.path in listing.objects]
        small.carry(files, {file.path: stored for file, stored in there if self._may_hold(file, stored)})

    # --- large files ---

    def _carry_large(self, files: list[HubFile], listing: Listing) -> None:
        self._window = Window(self._settings.buffer, self._stop, hash_parts=True)
        self._uploader = Uploader(self._window)
        transfers = [self._begin(file, listing.objects.get(file.path)) for file in files]
        self._window.run(transfer for transfer in transfers if transfer is not None)

    def _begin(self, file: HubFile, stored: Stored | None) -> Transfer | None:
        """How this file goes on: resume its upload, read back what is there, or start; None where it is proved already.

        An upload that was begun comes first: whoever began it knew that the object is none, or another one.
        """
        journal = self._journals.pop(file.path, None)
        if journal is not None and self._fits(journal, file, stored):
            try:
                return self._join(file, journal) if journal.sha256 else self._resume(file, journal)
            except Gone as error:
                print(f"not going on with the upload of {file.path}: {error}", flush=True)
                stored = self._spaces.listing().objects.get(file.path)
        if stored is not None and self._may_hold(file, stored):
            return self._read_back(file, stored)
        return self._start(file)

    def _fits(self, journal: Journal, file: HubFile, stored: Stored | None) -> bool:
        """Whether the journal is of just these bytes, and its upload is still to be joined."""
        if (journal.size, journal.source) != (file.size, source_of(file)):
            return False
        if journal.sha256 and file.sha256 is not None and journal.sha256 != file.sha256:
            return False
        return not journal.sha256 or stored is None or stored.etag != multipart_etag(journal.etags)

    def _may_hold(self, file: HubFile, stored: Stored | None) -> bool:
        """Whether an object may be the file, so that reading it back is worth it."""
        return stored is not None and stored.size == file.size and file.path not in self._stale

    def _start(self, file: HubFile) -> Transfer:
        size = part_size(file.size, self._settings.buffer, PARTS_LIMIT)
        return self._transfer(file, None, size, [], Sha256())

    def _join(self, file: HubFile, journal: Journal) -> None:
        """All parts were stored and agreed; only the join is missing. Raises Gone."""
        join(self._spaces, file.path, journal.upload, journal.etags)
        self._prove(file.path, Proof(file.size, journal.sha256, multipart_etag(journal.etags) or "", file.blob))
        self._progress.hash(file.size)

    def _resume(self, file: HubFile, journal: Journal) -> Transfer:
        """Goes on behind the parts that are stored and hashed. Raises Gone if the server no longer has exactly these."""
        state = journal.restored_state() if journal.etags else None
        if journal.part_size * 2 > self._settings.buffer or (journal.etags and state is None):
            raise Gone("its journal does not fit this run")
        parts = self._spaces.list_parts(file.path, journal.upload)
        for number, etag in enumerate(journal.etags, 1):
            length = min(journal.part_size, file.size - (number - 1) * journal.part_size)
            if number not in parts or parts[number][:2] != (length, etag):
                raise Gone(f"part {number} of its upload is not as it was")
        done = min(file.size, len(journal.etags) * journal.part_size)
        if done:
            print(f"going on with {file.path} behind {done} of {file.size} B", flush=True)
        self._resumed[file.path] = done
        self._progress.hash(done)
        return self._transfer(file, journal.upload, journal.part_size, journal.etags, Sha256(state))

    def _transfer(self, file: HubFile, upload: str | None, size: int, etags: list[str], digest: Sha256) -> Transfer:
        sink = MultipartSink(
            file, upload, size, etags, self._spaces, self._ledger, self._uploader, self._prove, self._again
        )
        return Transfer(
            size=file.size,
            part_size=size,
            source=lambda start, view, on_chunk: self._hub.fetch(self._commit, file, start, view, on_chunk),
            sink=sink,
            first=len(etags),
            digest=digest,
            on_bytes=lambda count: self._progress.move(file.path, count),
            unsaved=0 if sink.resumable else file.size,
        )

    def _read_back(self, file: HubFile, stored: Stored) -> Transfer:
        return Transfer(
            size=file.size,
            part_size=part_size(file.size, self._settings.buffer),
            source=lambda start, view, on_chunk: self._spaces.fetch(file.path, stored, start, view, on_chunk),
            sink=ReadBackSink(file, stored.etag, self._prove, self._replace),
            on_bytes=self._progress.hash,
            on_failure=unreadable(file.path),
        )

    def _again(self, file: HubFile, error: Again) -> Transfer | None:
        """A file that has to be taken up again: bytes that stay wrong and uploads that are always taken away end the run."""
        resumed = self._resumed.pop(file.path, 0)
        self._progress.hash(-resumed)
        # The wrong ones may have come before this run: they are no attempt of its own.
        kind = (file.path, type(error))
        self._attempts[kind] += 0 if resumed and isinstance(error, WrongBytes) else 1
        if isinstance(error, WrongBytes):
            if self._attempts[kind] > 1:
                raise wrong_bytes(file.path, error)
            print(f"fetching {file.path} again: {error}", flush=True)
            return self._start(file)
        if self._attempts[kind] > ROUNDS:
            raise Failure("spaces-unsteady", f"the upload of {file.path} was taken away {ROUNDS} times")
        return self._begin(file, self._spaces.listing().objects.get(file.path))

    def _replace(self, file: HubFile, error: Again) -> Transfer | None:
        """An object read back is not what was published, cannot be read, or changed while it was read."""
        if isinstance(error, (WrongBytes, Unreadable)):
            print(f"moving {file.path} again: {error}", flush=True)
            return self._start(file)
        return self._again(file, error)


def _is_late(old: Evidence | None, plan: Plan | None, listing: Listing) -> bool:
    """Whether the evidence came behind another run's plan, and so perhaps over objects that this one had begun to change."""
    at, planned = listing.objects.get(UPLOAD_SENTINEL), listing.objects.get(PLAN)
    if not (old and plan and at and planned) or planned.modified > at.modified:
        return False
    return (plan.commit, tuple(plan.include), tuple(plan.exclude)) != (old.commit, old.include, old.exclude)


def _agrees(proof: Proof, file: HubFile) -> bool:
    """Whether what was proved is what the Hub publishes now."""
    if file.sha256 is not None:
        return proof.sha256 == file.sha256
    return proof.blob == file.blob

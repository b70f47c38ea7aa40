"""Hop 1: the Hub's files at one commit, streamed into Spaces, proved on their way, with the evidence written last."""

import threading
import time
from datetime import timedelta

from claim import Claim
from evidence import UPLOAD_SENTINEL, Evidence, is_reserved
from failure import Failure, Stopped
from hub import Hub, HubFile
from large_upload import LargeUpload
from ledger import PLAN, SUSPECT, Ledger, Proof, abandoned_before
from progress import Progress
from settings import Settings
from small import SMALL
from small_upload import SmallUpload
from spaces import Listing, Spaces
from survey import Surveyor
from web import Web

ROUNDS = 3
# How often the server's clock is read while a second passes, and how long at most: object times may be ahead of it.
CLOCK_SECONDS = 0.1
REST_SECONDS = 3.0


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
        self._surveyor = Surveyor(settings, self._hub, self._spaces, self._ledger, progress)
        self._lock = threading.Lock()

    def run(self) -> dict[str, object]:
        """Stages the model; gives the termination message's fields. Raises Failure."""
        survey = self._survey = self._surveyor.survey()
        self._proofs = dict(survey.proofs)
        self._claim = Claim(self._settings, self._spaces, self._ledger, survey.commit, survey.include, survey.exclude)
        self._large = LargeUpload(
            survey,
            self._hub,
            self._spaces,
            self._ledger,
            self._progress,
            self._stop,
            self._settings.buffer,
            self._prove,
        )
        if survey.old is not None and self._is_complete(survey.old):
            self._finish_unchanged(survey.old)
        else:
            self._change()
        return {"commit": survey.commit, "files": len(survey.wanted), "bytes": survey.size}

    def _is_complete(self, old: Evidence) -> bool:
        """Whether the evidence is true: same commit and filter, and each of exactly its files still proved."""
        return len(self._proofs) == len(self._survey.wanted) and old.equals(self._claim.evidence(self._proofs))

    def _finish_unchanged(self, old: Evidence) -> None:
        survey, listing = self._survey, self._survey.listing
        print("already complete: the evidence in Spaces holds", flush=True)
        self._progress.hash(old.size)
        self._progress.finish(len(old.files))
        written = survey.sentinel[1] if survey.sentinel else None
        # Evidence that is not newer than an object proves nothing of it; what did is about to be cleared away.
        outdated = written is None or any(listing.objects[path].modified >= written for path in self._survey.wanted)
        if outdated or old.revision != self._settings.revision:
            self._write_plan()
            listing = self._write_evidence(listing)
        self._abort_abandoned(listing)
        self._clear(listing)

    def _write_plan(self) -> None:
        self._claim.write_plan(self._proofs, self._survey.known | self._survey.wanted.keys())

    def _change(self) -> None:
        survey, listing = self._survey, self._survey.listing
        self._surveyor.probe(survey)
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
        self._clear(listing)

    def _remove_old(self, listing: Listing) -> None:
        """Removes what only an earlier commit or filter had: a server would load both."""
        paths = sorted(path for path in self._survey.known - self._survey.wanted.keys() if path in listing.objects)
        if paths:
            self._claim.check(self._proofs)
        for path in paths:
            print(f"removing {path}: it was of an earlier commit or filter", flush=True)
            self._spaces.delete(path)

    def _clear(self, listing: Listing) -> None:
        """Removes what this and earlier runs left, and nothing that another run has left for itself."""
        if not self._claim.may_clear(listing):
            return
        # A suspect that was named while this run worked has not been looked at.
        suspect = self._survey.listing.objects.get(SUSPECT)
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
            missing = [file for path, file in self._survey.wanted.items() if path not in self._proofs]
            if missing:
                self._progress.enter("moving")
            self._carry_small([file for file in missing if file.size <= SMALL], listing)
            self._large.carry([file for file in missing if file.size > SMALL], listing)
            listing = self._spaces.listing()
            for path, proof in list(self._proofs.items()):
                stored = listing.objects.get(path)
                if not proof.covers(stored):
                    print(f"{path} changed in Spaces while this run worked: looking at it again", flush=True)
                    del self._proofs[path]
                    self._progress.hash(-proof.size)
                    self._progress.finish(-1)
            if len(self._proofs) == len(self._survey.wanted):
                return listing
        path = next(path for path in self._survey.wanted if path not in self._proofs)
        raise Failure("spaces-unsteady", f"{path} in Spaces keeps changing while it is being proved")

    def _await_rest(self, listing: Listing) -> None:
        """Until the newest object's second is over, so that one replaced from now on is not older than the evidence."""
        for _ in range(ROUNDS):
            newest = max(listing.objects[path].modified for path in self._survey.wanted)
            over = newest.replace(microsecond=0) + timedelta(seconds=1)
            clock = listing.at
            patience = time.monotonic() + REST_SECONDS
            while clock < over and time.monotonic() < patience:
                if self._stop.wait(CLOCK_SECONDS):
                    raise Stopped()
                clock = self._spaces.clock()
            latest = self._prove_all(listing)
            if all(latest.objects[path] == listing.objects[path] for path in self._survey.wanted):
                return
            listing = latest
        raise self._replaced()

    def _report_unknown(self, listing: Listing) -> None:
        others = listing.objects.keys() - self._survey.wanted.keys() - self._survey.known
        unknown = [key for key in others if not is_reserved(key)]
        if unknown:
            print(f"left alone: {len(unknown)} objects that no evidence lists, such as {min(unknown)}", flush=True)

    def _abort_abandoned(self, listing: Listing) -> None:
        ours = self._survey.known | self._survey.wanted.keys()
        uploads = self._spaces.uploads.sift(
            lambda key: "/" in self._settings.model or key in ours, abandoned_before(listing.at)
        )
        for upload in uploads.abandoned:
            print(f"aborting an abandoned upload of {upload.key}", flush=True)
            self._spaces.uploads.abort(upload.key, upload.id)
        if uploads.young:
            print(f"young unfinished uploads that stay, as a run elsewhere may be at them: {uploads.young}", flush=True)

    def _prove(self, path: str, proof: Proof) -> None:
        with self._lock:
            self._proofs[path] = proof
        self._progress.finish()

    def _carry_small(self, files: list[HubFile], listing: Listing) -> None:
        small = SmallUpload(self._survey.commit, self._hub, self._spaces, self._progress, self._stop, self._prove)
        there = [(file, listing.objects[file.path]) for file in files if file.path in listing.objects]
        small.carry(files, {file.path: stored for file, stored in there if self._survey.may_hold(file, stored)})

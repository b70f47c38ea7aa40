"""Removes a model's copy in the bucket: the evidence first, then what was ever listed as the model's, and nothing else.

Without CONFIRMED=true it only says what it would remove. A kill at any point loses nothing: before the evidence goes,
its paths stand in the plan. That goes last, and hop 1 reads it too, should the model be staged again instead.
"""

import threading

from clean import Holding, read_evidence
from evidence import UPLOAD_SENTINEL, Evidence
from lanes import Lanes
from ledger import JOURNALS, PLAN, SUSPECT, Ledger, Plan, abandoned_before
from multipart_uploads import Sifted
from progress import Progress
from settings import Settings
from spaces import Listing, Spaces
from web import Web

LANES = 16


class CleanSpaces:
    """One removal of one model's prefix."""

    def __init__(self, settings: Settings, progress: Progress, stop: threading.Event) -> None:
        self._settings = settings
        self._progress = progress
        self._spaces = Spaces(settings, Web(stop), stop)
        self._ledger = Ledger(self._spaces, settings.model)

    def run(self) -> dict[str, object]:
        """Looks, and removes when that is confirmed; gives the termination message's fields. Raises Failure."""
        self._progress.enter("planning")
        found = self._spaces.read(UPLOAD_SENTINEL)
        evidence = read_evidence(found[0] if found else None, UPLOAD_SENTINEL, self._settings.model)
        # Of an upload, or of a removal, that did not end.
        plan = self._ledger.read_plan()
        listing = self._spaces.listing()
        holding = self._look(evidence, plan, listing)
        uploads = self._spaces.uploads.sift(lambda key: key in holding.listed, abandoned_before(listing.at))
        self._progress.expect(len(holding.files), 0)
        if self._settings.confirmed:
            self._progress.enter("removing")
            self._remove(holding, uploads, plan, listing)
            holding.check_gone("Spaces", self._spaces.listing().objects.keys() - {PLAN})
        report = holding.report("Spaces", self._settings.confirmed)
        return {**report, "uploads": len(uploads.abandoned), "young_uploads": uploads.young}

    def _look(self, evidence: Evidence | None, plan: Plan | None, listing: Listing) -> Holding:
        listed = {file.path for file in evidence.files} if evidence else set()
        listed |= set(plan.known) if plan else set()
        there = listing.objects.keys()
        leftovers = {key for key in there if key.startswith(JOURNALS) or key in (SUSPECT, PLAN)}
        if listed:
            leftovers |= there & {UPLOAD_SENTINEL}
        files = {path: listing.objects[path].size for path in listed & there}
        return Holding(evidence, listed, files, sorted(leftovers), sorted(there - leftovers - files.keys()))

    def _delete(self, path: str) -> None:
        self._spaces.delete(path)
        self._progress.finish()

    def _remove(self, holding: Holding, uploads: Sifted, plan: Plan | None, listing: Listing) -> None:
        self._remember(holding, plan)
        if holding.listed:
            self._spaces.delete(UPLOAD_SENTINEL)
        with Lanes(LANES, "remove") as lanes:
            lanes.map(self._delete, list(holding.files))
        for upload in uploads.abandoned:
            self._spaces.uploads.abort(upload.key, upload.id)
        for key in holding.leftovers:
            if key != PLAN:
                self._spaces.delete(key)
        # Whoever comes back for the young ones has to know whose they are.
        if not uploads.young:
            self._spaces.delete(PLAN)

    def _remember(self, holding: Holding, plan: Plan | None) -> None:
        known = sorted(holding.listed)
        source = holding.evidence or plan
        if source is None or (plan and plan.known == known and not plan.proofs):
            return
        self._ledger.write_plan(
            Plan(
                model=self._settings.model,
                revision=source.revision,
                commit=source.commit,
                include=list(source.include),
                exclude=list(source.exclude),
                # Of no Job: an upload that comes later resolves its own commit.
                job="",
                known=known,
            )
        )

"""What there is before hop 1 changes anything: the commit's files that are wanted, and what of them Spaces holds and is proved."""

from dataclasses import dataclass, replace
from datetime import datetime

from claim import read_sentinel
from digest import multipart_etag
from evidence import UPLOAD_SENTINEL, Evidence, check_paths
from failure import Failure
from hub import Hub, HubFile
from ledger import PLAN, SUSPECT, Journal, Ledger, Plan, Proof
from progress import Progress, counted, human
from selection import effective_exclude, is_selected
from settings import Settings
from spaces import Listing, Spaces, Stored


@dataclass(frozen=True)
class Survey:
    """What is wanted of a commit, by path, what is left out, and what of it is there."""

    commit: str
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    wanted: dict[str, HubFile]
    left_out: list[HubFile]
    # Every path that was ever ours.
    known: set[str]
    proofs: dict[str, Proof]
    # Objects of these paths are known to be other bytes.
    stale: set[str]
    journals: dict[str, Journal]
    listing: Listing
    old: Evidence | None
    sentinel: tuple[bytes, datetime] | None

    @property
    def size(self) -> int:
        """Bytes of the wanted files."""
        return sum(file.size for file in self.wanted.values())

    def may_hold(self, file: HubFile, stored: Stored | None) -> bool:
        """Whether an object may be the file, so that reading it back is worth it."""
        return stored is not None and stored.size == file.size and file.path not in self.stale


class Surveyor:
    """Looks at the Hub and at the bucket, and changes neither."""

    def __init__(self, settings: Settings, hub: Hub, spaces: Spaces, ledger: Ledger, progress: Progress) -> None:
        self._settings = settings
        self._hub = hub
        self._spaces = spaces
        self._ledger = ledger
        self._progress = progress

    def survey(self) -> Survey:
        """Finds the commit, its files, and what of them is proved. Raises Failure."""
        self._progress.enter("planning")
        sentinel = self._spaces.read(UPLOAD_SENTINEL)
        listing = self._spaces.listing()
        plan = self._ledger.read_plan()
        old = read_sentinel(sentinel[0] if sentinel else None, self._settings.model)
        commit = self._settle_commit(old, plan)
        files = self._hub.files(commit)
        include = self._settings.include
        exclude = effective_exclude(self._settings.exclude, [file.path for file in files])
        chosen = [file for file in files if is_selected(file.path, include, exclude)]
        self._check(commit, files, chosen)
        wanted = {file.path: file for file in chosen}
        written = sentinel[1] if sentinel and not _is_late(old, plan, listing) else None
        journals = self._ledger.read_journals(listing.objects)
        # A repair trusts no claim; unfinished uploads it still goes on with.
        claimed = {} if self._settings.repair else self._claimed(commit, wanted, old, written, plan, journals, listing)
        proofs, stale = self._hold_against(wanted, claimed, listing)
        survey = Survey(
            commit,
            include,
            exclude,
            wanted,
            [file for file in files if file.path not in wanted],
            {file.path for file in (old.files if old else ())} | set(plan.known if plan else ()),
            proofs,
            stale,
            journals,
            listing,
            old,
            sentinel,
        )
        self._tell(survey)
        return survey

    def probe(self, survey: Survey) -> None:
        """Asks for access to the largest file that has to be fetched, before anything changes. Raises Failure."""
        objects = survey.listing.objects
        to_fetch = [
            file
            for path, file in survey.wanted.items()
            if path not in survey.proofs and not survey.may_hold(file, objects.get(path))
        ]
        if to_fetch:
            self._hub.probe(survey.commit, max(to_fetch, key=lambda file: file.size))

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

    def _check(self, commit: str, files: list[HubFile], chosen: list[HubFile]) -> None:
        """Raises Failure where a path is hostile or there twice, or nothing is left to stage."""
        check_paths(file.path for file in chosen)
        if not chosen:
            reason = f"the filter leaves out all {len(files)} files" if files else "has no files"
            raise Failure("empty-listing", f"{self._settings.model} at {commit[:8]}: {reason}")

    def _claimed(
        self,
        commit: str,
        wanted: dict[str, HubFile],
        old: Evidence | None,
        written: datetime | None,
        plan: Plan | None,
        journals: dict[str, Journal],
        listing: Listing,
    ) -> dict[str, Proof]:
        """What the plan, the journals and the evidence say of the objects that they were written of."""
        proofs: dict[str, Proof] = dict(plan.proofs) if plan else {}
        for journal in journals.values():
            if journal.sha256:
                proofs[journal.path] = Proof(journal.size, journal.sha256, multipart_etag(journal.etags) or "")
        for file in old.files if old else ():
            stored = listing.objects.get(file.path)
            # Object times are whole seconds. The evidence is written in a later one than its objects, so that an
            # object of the same second was replaced behind our back.
            if stored and written and stored.size == file.size and stored.modified < written:
                known = wanted.get(file.path) if old and old.commit == commit else None
                blob = known.blob if known else ""
                proofs[file.path] = Proof(file.size, file.sha256, stored.etag, blob)
        return proofs

    def _hold_against(
        self, wanted: dict[str, HubFile], claimed: dict[str, Proof], listing: Listing
    ) -> tuple[dict[str, Proof], set[str]]:
        """The proofs that hold, and the paths of objects that are known to be other bytes; neither of what hop 2 suspects."""
        suspects = self._ledger.read_suspects() if claimed and SUSPECT in listing.objects else set()
        proofs: dict[str, Proof] = {}
        stale: set[str] = set()
        for path, file in wanted.items():
            proof = claimed.get(path)
            if proof is None or path in suspects or not proof.covers(listing.objects.get(path)):
                continue
            if _agrees(proof, file):
                proofs[path] = replace(proof, blob=file.blob)
            elif file.sha256 is not None:
                # Of an earlier commit: reading them back could prove nothing.
                stale.add(path)
        return proofs, stale

    def _tell(self, survey: Survey) -> None:
        self._progress.expect(len(survey.wanted), survey.size)
        there = sum(proof.size for proof in survey.proofs.values())
        says = f"commit {survey.commit}, {counted(len(survey.wanted))}, {human(survey.size)}"
        if 0 < there < survey.size:
            says += f"; {human(there)} there, {human(survey.size - there)} to move"
        if survey.left_out:
            by = " ".join(["include", *survey.include] if survey.include else ["exclude", *survey.exclude])
            size = sum(file.size for file in survey.left_out)
            says += f"; left out {counted(len(survey.left_out))}, {human(size)}, by {by}"
        print(says, flush=True)


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

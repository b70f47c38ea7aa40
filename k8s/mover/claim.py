"""What one run of hop 1 says its prefix is to hold: the plan written first, the evidence last, and nothing over another run's word."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from evidence import UPLOAD_SENTINEL, Evidence, File, NotEvidence, parse_evidence
from failure import Failure
from ledger import PLAN, Ledger, Plan, Proof, abandoned_before
from settings import Settings
from spaces import Listing, Spaces


def read_sentinel(body: bytes | None, model: str) -> Evidence | None:
    """The evidence of this model; what stands there and is none is no reason to stop."""
    if body is None:
        return None
    try:
        evidence = parse_evidence(body)
    except NotEvidence as error:
        print(f"{UPLOAD_SENTINEL} proves nothing, {error}: the objects are read back", flush=True)
        return None
    if evidence.model != model:
        print(f"{UPLOAD_SENTINEL} is of {evidence.model}: the objects are read back", flush=True)
        return None
    return evidence


@dataclass
class Claim:
    """One run's commit and filter, against whatever other runs make of the same prefix meanwhile."""

    _settings: Settings
    _spaces: Spaces
    _ledger: Ledger
    _commit: str
    _include: tuple[str, ...]
    _exclude: tuple[str, ...]
    _known: set[str] = field(default_factory=set)

    def evidence(self, proofs: Mapping[str, Proof]) -> Evidence:
        """The document that these proofs make."""
        files = tuple(File(path, proof.size, proof.sha256) for path, proof in sorted(proofs.items()))
        settings = self._settings
        return Evidence(settings.model, settings.revision, self._commit, self._include, self._exclude, files)

    def write_plan(self, proofs: dict[str, Proof], known: set[str]) -> None:
        """Puts the plan; `known` are all paths that were ever ours."""
        self._known = known
        self._put_plan(self.evidence({}), self._settings.job_uid, proofs)

    def check(self, proofs: Mapping[str, Proof]) -> None:
        """Behind write_plan: whether the prefix is still this run's to change. Raises Failure("spaces-unsteady").

        A plan that is gone was cleared by a run that ended well, or by a removal: the evidence tells by which.
        """
        plan = self._ledger.read_plan()
        if plan is not None:
            if not self._is_own(plan):
                self._take_back(proofs, set(plan.known))
            self._demand_own(plan, "began to move")
            return
        found = self._spaces.read(UPLOAD_SENTINEL)
        now = read_sentinel(found[0] if found else None, self._settings.model)
        if now is None:
            raise Failure("spaces-unsteady", f"another run removed what this one knew of {self._settings.model}")
        if not self._is_own(now):
            self._withdraw_overwritten(now, proofs)
            self._take_back(proofs, {file.path for file in now.files})
        self._demand_own(now, "finished")

    def may_clear(self, listing: Listing) -> bool:
        """Whether the documents there are no other run's that may be alive.

        Whoever writes a plan withdraws the evidence of other files in the next moment: an old plan beside good evidence
        is of a run that was killed in between.
        """
        plan = self._ledger.read_plan()
        if plan is None or self._is_own(plan):
            return True
        stored = listing.objects.get(PLAN)
        return stored is not None and stored.modified < abandoned_before(listing.at)

    def withdraw_evidence(self, seen: tuple[bytes, datetime] | None) -> None:
        """Removes what was `seen` and found not to be true, behind the plan and before the first change.

        In this order, since whoever writes evidence looks at the plan once more behind it: one of the two sees the
        other. Raises Failure("spaces-unsteady").
        """
        found = self._spaces.read(UPLOAD_SENTINEL)
        if found is None:
            return
        if found == seen:
            self._spaces.delete(UPLOAD_SENTINEL)
            return
        now = read_sentinel(found[0], self._settings.model)
        if now is None or not self._is_own(now):
            # The plan says nothing that this other run did not know.
            self._spaces.delete(PLAN)
            raise Failure("spaces-unsteady", f"another run finished other files of {self._settings.model} just now")
        print("another run finished this commit just now: its evidence stays", flush=True)

    def put_evidence(self, proofs: Mapping[str, Proof]) -> None:
        """Writes the evidence, which must not appear over objects that another run is changing."""
        self.check(proofs)
        self._spaces.put(UPLOAD_SENTINEL, self.evidence(proofs).dump())
        try:
            self.check(proofs)
        except Failure:
            self._spaces.delete(UPLOAD_SENTINEL)
            raise

    def _put_plan(self, of: Evidence, job: str, proofs: dict[str, Proof]) -> None:
        include, exclude, known = list(of.include), list(of.exclude), sorted(self._known)
        self._ledger.write_plan(Plan(of.model, of.revision, of.commit, include, exclude, job, proofs, known))

    def _withdraw_overwritten(self, now: Evidence, proofs: Mapping[str, Proof]) -> None:
        """Takes back the evidence of a run that ended while a late write of this one was on its way to the same object."""
        objects = self._spaces.listing().objects
        late = [
            file.path
            for file in now.files
            if file.path in proofs
            and proofs[file.path].sha256 != file.sha256
            and proofs[file.path].covers(objects.get(file.path))
        ]
        if late:
            print(f"{late[0]} was written over another run's: the evidence of that run is withdrawn", flush=True)
            self._known = self._known | {file.path for file in now.files}
            # Of no Job: a run that comes later resolves its own commit.
            self._put_plan(now, "", {})
            self._spaces.delete(UPLOAD_SENTINEL)

    def _take_back(self, proofs: Mapping[str, Proof], theirs: set[str]) -> None:
        """Removes what the other run does not know of: nobody else would, and a server would load both."""
        if proofs.keys() <= theirs:
            return
        objects = self._spaces.listing().objects
        for path in sorted(proofs.keys() - theirs):
            if proofs[path].covers(objects.get(path)):
                print(f"removing {path}: another run has taken over, without it", flush=True)
                self._spaces.delete(path)

    def _is_own(self, other: Plan | Evidence) -> bool:
        own = (self._commit, self._include, self._exclude)
        return (other.commit, tuple(other.include), tuple(other.exclude)) == own

    def _demand_own(self, other: Plan | Evidence, did: str) -> None:
        if not self._is_own(other):
            raise Failure(
                "spaces-unsteady",
                f"another run {did} commit {other.commit[:8]} of {self._settings.model}, "
                f"this one moved {self._commit[:8]}",
            )

"""What a run would do: the commit, the files, what Spaces and the volume hold already, and what would move. Changes nothing."""

import threading

from digest import GitBlob
from evidence import DOWNLOAD_SENTINEL, File, NotEvidence, parse_evidence
from hub import Hub, HubFile
from ledger import Ledger
from progress import Progress
from settings import Settings
from spaces import Spaces
from survey import Survey, Surveyor
from volume import Volume
from web import Web


class Plan:
    """One look at both hops, with the cluster's own Secrets and the volume mounted read-only."""

    def __init__(self, settings: Settings, progress: Progress, stop: threading.Event) -> None:
        self._settings = settings
        web = Web(stop)
        hub = Hub(settings, web, stop)
        spaces = Spaces(settings, web, stop)
        self._surveyor = Surveyor(settings, hub, spaces, Ledger(spaces, settings.model), progress)
        self._volume = Volume(settings.models_dir, settings.model)

    def run(self) -> dict[str, object]:
        """Gives the plan as the termination message's fields; sizes in bytes. Raises Failure as an upload would."""
        survey = self._surveyor.survey()
        self._surveyor.probe(survey)
        staged = self._staged(survey)
        sizes = {path: file.size for path, file in survey.wanted.items()}
        # Still there, as far as its size tells.
        there = {
            path for path in staged if staged[path] and (mark := self._volume.mark(path)) and mark.size == sizes[path]
        }
        return {
            "commit": survey.commit,
            "files": len(survey.wanted),
            "bytes": survey.size,
            "left_out_files": len(survey.left_out),
            "left_out_bytes": sum(file.size for file in survey.left_out),
            "exclude": list(survey.exclude),
            "include": list(survey.include),
            "spaces_bytes": sum(proof.size for proof in survey.proofs.values()),
            "spaces_files": len(survey.proofs),
            "volume_bytes": sum(sizes[path] for path in there),
            "volume_files": len(there),
            # Under a server's feet: files that are staged now and would be replaced or removed.
            "changing_files": sum(not same for same in staged.values()),
            "free_bytes": self._volume.free(),
        }

    def _staged(self, survey: Survey) -> dict[str, bool]:
        """Every file of the volume's evidence: whether it is wanted just as it is."""
        found = self._volume.read(DOWNLOAD_SENTINEL)
        if found is None:
            return {}
        try:
            evidence = parse_evidence(found[0])
        except NotEvidence as error:
            print(f"{DOWNLOAD_SENTINEL} on the volume proves nothing, {error}", flush=True)
            return {}
        same = dict.fromkeys((file.path for file in evidence.files), False)
        for file in evidence.files:
            known = survey.wanted.get(file.path)
            if known and known.size == file.size:
                same[file.path] = evidence.commit == survey.commit or self._agrees(survey, known, file)
        return same

    def _agrees(self, survey: Survey, wanted: HubFile, staged: File) -> bool:
        """Whether the evidence lists the bytes of another commit's file."""
        proof = survey.proofs.get(wanted.path)
        published = wanted.sha256 or (proof.sha256 if proof else None)
        if published:
            return staged.sha256 == published
        # The Hub publishes no SHA-256 of a git file, only what git calls its bytes; it is small enough to be read for that.
        if self._volume.mark(wanted.path) is None or (found := self._volume.read(wanted.path)) is None:
            return False
        blob = GitBlob(len(found[0]))
        blob.update(found[0])
        return blob.hexdigest() == wanted.blob

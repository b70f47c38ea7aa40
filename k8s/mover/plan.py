"""What a run would do: the commit, the files, what Spaces and the volume hold already, and what would move. Changes nothing."""

import threading

from digest import GitBlob
from evidence import DOWNLOAD_SENTINEL, File, NotEvidence, parse_evidence
from hub import HubFile
from progress import Progress
from settings import Settings
from upload import Survey, Upload
from volume import Volume


class Plan:
    """One look at both hops, with the cluster's own Secrets and the volume mounted read-only."""

    def __init__(self, settings: Settings, progress: Progress, stop: threading.Event) -> None:
        self._settings = settings
        self._upload = Upload(settings, progress, stop)
        self._volume = Volume(settings.models_dir, settings.model)

    def run(self) -> dict[str, object]:
        """Gives the plan as the termination message's fields; sizes in bytes. Raises Failure as an upload would."""
        survey = self._upload.survey()
        self._upload.probe(survey)
        staged = self._staged(survey)
        in_spaces = sum(proof.size for proof in survey.proofs.values())
        on_volume = sum(file.size for file in survey.wanted if file.path in staged)
        # Under a server's feet: files that are staged now and would be replaced or removed.
        changing = [path for path, same in self._evidence_files(survey).items() if not same]
        return {
            "commit": survey.commit,
            "files": len(survey.wanted),
            "bytes": survey.size,
            "left_out_files": len(survey.left_out),
            "left_out_bytes": sum(file.size for file in survey.left_out),
            "exclude": list(survey.exclude),
            "include": list(self._settings.include),
            "spaces_bytes": in_spaces,
            "spaces_files": len(survey.proofs),
            "volume_bytes": on_volume,
            "volume_files": len(staged),
            "changing_files": len(changing),
            "free_bytes": self._volume.free(),
        }

    def _staged(self, survey: Survey) -> set[str]:
        """Wanted files that the volume's evidence lists with the wanted bytes, still there with their size."""
        sizes = {file.path: file.size for file in survey.wanted}
        return {
            path
            for path, same in self._evidence_files(survey).items()
            if same and (mark := self._volume.mark(path)) and mark.size == sizes[path]
        }

    def _evidence_files(self, survey: Survey) -> dict[str, bool]:
        """Every file of the volume's evidence: whether it is wanted just as it is."""
        found = self._volume.read(DOWNLOAD_SENTINEL)
        if found is None:
            return {}
        try:
            evidence = parse_evidence(found[0])
        except NotEvidence as error:
            print(f"{DOWNLOAD_SENTINEL} on the volume proves nothing, {error}", flush=True)
            return {}
        wanted = {file.path: file for file in survey.wanted}
        same_commit = evidence.commit == survey.commit
        return {
            file.path: (known := wanted.get(file.path)) is not None
            and file.size == known.size
            and (same_commit or self._agrees(survey, known, file))
            for file in evidence.files
        }

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

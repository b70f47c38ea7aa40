"""Hop 1's large files: several parts of several files at a time, through multipart uploads that a later run goes on with."""

import threading
from collections import Counter
from collections.abc import Callable

from digest import Sha256, multipart_etag
from failure import Again, Failure
from hub import Hub, HubFile
from ledger import Journal, Ledger, Proof
from multipart import MultipartSink, ReadBackSink, Uploader, WrongBytes, join, source_of, wrong_bytes
from multipart_uploads import PARTS_LIMIT
from progress import Progress
from refusal import Gone, Unreadable, unreadable
from spaces import Listing, Spaces, Stored
from survey import Survey
from window import Transfer, Window, part_size

# How often an upload may be taken away from under a run, or an object replaced.
TAKEN_MOST = 3


class LargeUpload:
    """The large files of one run, `buffer` bytes of them in memory at a time; on_proof(path, proof) is called for each in Spaces."""

    def __init__(
        self,
        survey: Survey,
        hub: Hub,
        spaces: Spaces,
        ledger: Ledger,
        progress: Progress,
        stop: threading.Event,
        buffer: int,
        on_proof: Callable[[str, Proof], None],
    ) -> None:
        self._survey = survey
        self._hub = hub
        self._spaces = spaces
        self._ledger = ledger
        self._progress = progress
        self._stop = stop
        self._buffer = buffer
        self._on_proof = on_proof
        self._journals = dict(survey.journals)
        self._attempts: Counter[tuple[str, type[Again]]] = Counter()
        self._resumed: Counter[str] = Counter()

    def carry(self, files: list[HubFile], listing: Listing) -> None:
        """Moves or reads back each file, `listing` being what the bucket holds. Raises Failure."""
        window = Window(self._buffer, self._stop, hash_parts=True)
        self._uploader = Uploader(window)
        transfers = [self._begin(file, listing.objects.get(file.path)) for file in files]
        window.run(transfer for transfer in transfers if transfer is not None)

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
        if stored is not None and self._survey.may_hold(file, stored):
            return self._read_back(file, stored)
        return self._start(file)

    def _fits(self, journal: Journal, file: HubFile, stored: Stored | None) -> bool:
        """Whether the journal is of just these bytes, and its upload is still to be joined."""
        if (journal.size, journal.source) != (file.size, source_of(file)):
            return False
        if journal.sha256 and file.sha256 is not None and journal.sha256 != file.sha256:
            return False
        return not journal.sha256 or stored is None or stored.etag != multipart_etag(journal.etags)

    def _start(self, file: HubFile) -> Transfer:
        size = part_size(file.size, self._buffer, PARTS_LIMIT)
        return self._transfer(file, None, size, [], Sha256())

    def _join(self, file: HubFile, journal: Journal) -> None:
        """All parts were stored and agreed; only the join is missing. Raises Gone."""
        join(self._spaces, file.path, journal.upload, journal.etags)
        self._on_proof(file.path, Proof(file.size, journal.sha256, multipart_etag(journal.etags) or "", file.blob))
        self._progress.hash(file.size)

    def _resume(self, file: HubFile, journal: Journal) -> Transfer:
        """Goes on behind the parts that are stored and hashed. Raises Gone if the server no longer has exactly these."""
        state = journal.restored_state() if journal.etags else None
        if journal.part_size * 2 > self._buffer or (journal.etags and state is None):
            raise Gone("its journal does not fit this run")
        parts = self._spaces.uploads.list_parts(file.path, journal.upload)
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
            file, upload, size, etags, self._spaces, self._ledger, self._uploader, self._on_proof, self._again
        )
        return Transfer(
            size=file.size,
            part_size=size,
            source=lambda start, view, on_chunk: self._hub.fetch(self._survey.commit, file, start, view, on_chunk),
            sink=sink,
            first=len(etags),
            digest=digest,
            on_bytes=lambda count: self._progress.move(file.path, count),
            unsaved=0 if sink.resumable else file.size,
        )

    def _read_back(self, file: HubFile, stored: Stored) -> Transfer:
        return Transfer(
            size=file.size,
            part_size=part_size(file.size, self._buffer),
            source=lambda start, view, on_chunk: self._spaces.fetch(file.path, stored, start, view, on_chunk),
            sink=ReadBackSink(file, stored.etag, self._on_proof, self._replace),
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
        if self._attempts[kind] > TAKEN_MOST:
            times = self._attempts[kind]
            raise Failure(
                "spaces-unsteady", f"{file.path} was taken away or replaced {times} times while this run was at it"
            )
        return self._begin(file, self._spaces.listing().objects.get(file.path))

    def _replace(self, file: HubFile, error: Again) -> Transfer | None:
        """An object read back is not what was published, cannot be read, or changed while it was read."""
        if isinstance(error, (WrongBytes, Unreadable)):
            print(f"moving {file.path} again: {error}", flush=True)
            return self._start(file)
        return self._again(file, error)

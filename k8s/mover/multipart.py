"""Hop 1's sinks: an object made of parts, and an object read back to prove it."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from digest import GitBlob, Sha256, multipart_etag
from failure import Again, Failure
from hub import HubFile
from ledger import Journal, Ledger, Proof, encode_state
from spaces import Gone, Spaces
from window import LANES, Part, Transfer, Window


class WrongBytes(Again):
    """All bytes of the file came, and they are not the ones that were published."""


class Agreement:
    """Whether a file's bytes are the published ones: SHA-256 for LFS files, the git blob id for the others."""

    def __init__(self, file: HubFile) -> None:
        self._file = file
        self._blob = GitBlob(file.size) if file.sha256 is None else None

    def update(self, view: memoryview) -> None:
        """Adds bytes in file order; free for LFS files, whose SHA-256 is computed anyway."""
        if self._blob is not None:
            self._blob.update(view)

    def check(self, sha256: str) -> None:
        """Raises WrongBytes, naming both sides."""
        if self._blob is None:
            expected, got = f"SHA-256 {self._file.sha256}", f"SHA-256 {sha256}"
        else:
            expected, got = f"git blob {self._file.blob}", f"git blob {self._blob.hexdigest()}"
        if expected != got:
            raise WrongBytes(f"{self._file.path}: {expected} was published, {got} came")


class Uploader:
    """Sends parts while others are fetched; `LANES` at a time, which also bounds the PUTs of one object."""

    def __init__(self, spaces: Spaces, window: Window) -> None:
        self._spaces = spaces
        self._window = window
        self._pool = ThreadPoolExecutor(LANES, thread_name_prefix="store")

    def submit(self, key: str, upload: str, part: Part, on_stored: Callable[[str], None]) -> None:
        """Sends the part, calls on_stored(etag), and gives the bytes back."""
        part.hold()
        self._pool.submit(self._store, key, upload, part, on_stored)

    def _store(self, key: str, upload: str, part: Part, on_stored: Callable[[str], None]) -> None:
        try:
            on_stored(self._spaces.upload_part(key, upload, part.number + 1, part.view, part.sha256))
        except Again as error:
            self._window.abandon(part, error)
        except BaseException as error:
            self._window.fail(error)
        finally:
            part.release()


class MultipartSink:
    """One object: parts are stored in any order, joined only after the whole file's hash agreed."""

    def __init__(
        self,
        file: HubFile,
        upload: str,
        part_size: int,
        etags: list[str],
        spaces: Spaces,
        ledger: Ledger,
        uploader: Uploader,
        on_proof: Callable[[str, Proof], None],
        on_again: Callable[[HubFile, Again], Transfer | None],
    ) -> None:
        self._file = file
        self._upload = upload
        self._part_size = part_size
        self._spaces = spaces
        self._ledger = ledger
        self._uploader = uploader
        self._on_proof = on_proof
        self._on_again = on_again
        self._agreement = Agreement(file)
        self._lock = threading.Lock()
        self._etags = dict(enumerate(etags))
        self._states: dict[int, str] = {}
        self._journaled = len(etags)

    def accept(self, part: Part) -> None:
        """Starts storing the part; its place in the file does not matter."""
        self._uploader.submit(self._file.path, self._upload, part, lambda etag: self._on_stored(part.number, etag))

    def proceed(self, part: Part, digest: Sha256) -> None:
        """Remembers the running hash behind this part."""
        self._agreement.update(part.view)
        state = encode_state(digest.state())
        with self._lock:
            self._states[part.number] = state
        self._advance()

    def finish(self, sha256: str) -> None:
        """Joins the parts. The journal says first which parts agreed: a kill behind the join finds the object proved by its ETag."""
        self._agreement.check(sha256)
        etags = [self._etags[number] for number in range(len(self._etags))]
        self._ledger.save(self._journal(etags, "", sha256))
        self._ledger.flush(self._file.path)
        try:
            self._spaces.complete_upload(self._file.path, self._upload, etags)
        except Gone:
            # A repeated or lost answer looks the same as an upload that was aborted: the object itself tells.
            stored = self._spaces.listing().objects.get(self._file.path)
            if stored is None or stored.etag != multipart_etag(etags):
                raise
        self._on_proof(self._file.path, Proof(self._file.size, sha256, multipart_etag(etags) or "", self._file.blob))

    def restart(self, error: Again) -> Transfer | None:
        """Drops wrong parts; what comes next is the run's to say."""
        if isinstance(error, WrongBytes):
            self._spaces.abort_upload(self._file.path, self._upload)
        self._ledger.forget(self._file.path)
        return self._on_again(self._file, error)

    def _on_stored(self, number: int, etag: str) -> None:
        with self._lock:
            self._etags[number] = etag
        self._advance()

    def _advance(self) -> None:
        """Writes the journal whenever the run of parts that are both stored and hashed has grown."""
        if self._file.sha256 is None:
            return
        with self._lock:
            count = self._journaled
            while count in self._etags and count in self._states:
                count += 1
            if count == self._journaled:
                return
            for number in range(self._journaled, count - 1):
                del self._states[number]
            state = self._states.pop(count - 1)
            self._journaled = count
            journal = self._journal([self._etags[number] for number in range(count)], state)
            self._ledger.save(journal)

    def _journal(self, etags: list[str], state: str, sha256: str = "") -> Journal:
        file = self._file
        return Journal(file.path, file.size, source_of(file), self._part_size, self._upload, etags, state, sha256)


class ReadBackSink:
    """One object read back: it is adopted when its bytes are the published ones."""

    def __init__(
        self,
        file: HubFile,
        etag: str,
        on_proof: Callable[[str, Proof], None],
        on_again: Callable[[HubFile, Again], Transfer | None],
    ) -> None:
        self._file = file
        self._etag = etag
        self._on_proof = on_proof
        self._on_again = on_again
        self._agreement = Agreement(file)

    def accept(self, part: Part) -> None:
        """Nothing to do before the part's turn."""

    def proceed(self, part: Part, digest: Sha256) -> None:
        """Adds the part to the file's own hash."""
        self._agreement.update(part.view)

    def finish(self, sha256: str) -> None:
        """Adopts the object as it was when it was listed."""
        self._agreement.check(sha256)
        self._on_proof(self._file.path, Proof(self._file.size, sha256, self._etag, self._file.blob))

    def restart(self, error: Again) -> Transfer | None:
        """It is not what was published, or it changed while it was read."""
        return self._on_again(self._file, error)


def source_of(file: HubFile) -> str:
    """What the Hub publishes for the bytes of a file."""
    return f"sha256:{file.sha256}" if file.sha256 else f"git:{file.blob}"


def wrong_bytes(path: str, error: Again) -> Failure:
    """Bytes that stay wrong."""
    return Failure("wrong-bytes", f"the Hub keeps sending other bytes than it publishes: {error or path}")

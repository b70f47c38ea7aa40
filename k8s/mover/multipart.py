"""Hop 1's sinks: an object made of parts, and an object read back to prove it."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from digest import GitBlob, Sha256, multipart_etag
from failure import Again, Failure
from hub import HubFile
from ledger import Journal, Ledger, Proof, encode_state
from refusal import Gone
from spaces import Spaces
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

    def __init__(self, window: Window) -> None:
        self._window = window
        self._pool = ThreadPoolExecutor(LANES, thread_name_prefix="store")

    def submit(self, part: Part, store: Callable[[Part], None]) -> None:
        """Runs store(part), and gives the bytes back."""
        part.hold()
        self._pool.submit(self._run, part, store)

    def fail(self, error: BaseException) -> None:
        """Ends the run."""
        self._window.fail(error)

    def _run(self, part: Part, store: Callable[[Part], None]) -> None:
        try:
            store(part)
        except Again as error:
            self._window.abandon(part, error)
        except BaseException as error:
            self._window.fail(error)
        finally:
            part.release()


class MultipartSink:
    """One object: parts are stored in any order, joined only after the whole file's hash agreed.

    A part's bytes are kept until a journal that counts the part is in the bucket: whatever a kill loses was in the
    window, however long a part before it or the journal takes.
    """

    def __init__(
        self,
        file: HubFile,
        upload: str | None,
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
        # Of a git blob's running hash nothing can be saved, and one part is never resumed.
        self.resumable = file.sha256 is not None and file.size > part_size
        self._creation = threading.Lock()
        self._lock = threading.Lock()
        self._etags = dict(enumerate(etags))
        self._states: dict[int, str] = {}
        self._journaled = len(etags)
        self._kept: dict[int, Part] = {}
        self._dropped = False

    def accept(self, part: Part) -> None:
        """Starts storing the part; its place in the file does not matter."""
        self._uploader.submit(part, self._store)

    def proceed(self, part: Part, digest: Sha256) -> None:
        """Remembers the running hash behind this part."""
        self._agreement.update(part.view)
        if not self.resumable:
            return
        state = encode_state(digest.state())
        with self._lock:
            self._states[part.number] = state
            if not self._dropped:
                part.hold()
                self._kept[part.number] = part
        self._advance()

    def drop(self) -> None:
        """Gives the parts back that wait for their journal."""
        with self._lock:
            self._dropped = True
            kept, self._kept = list(self._kept.values()), {}
        for part in kept:
            part.release()

    def finish(self, sha256: str) -> None:
        """Joins the parts. The journal says first which parts agreed: a kill behind the join finds the object proved by its ETag."""
        self._agreement.check(sha256)
        etags = [self._etags[number] for number in range(len(self._etags))]
        self._ledger.write(self._journal(etags, "", sha256))
        join(self._spaces, self._file.path, self._upload_id(), etags)
        self._on_proof(self._file.path, Proof(self._file.size, sha256, multipart_etag(etags) or "", self._file.blob))

    def restart(self, error: Again) -> Transfer | None:
        """Drops wrong parts; what comes next is the run's to say."""
        if isinstance(error, WrongBytes) and self._upload is not None:
            self._spaces.uploads.abort(self._file.path, self._upload)
        self._ledger.forget(self._file.path)
        return self._on_again(self._file, error)

    def _store(self, part: Part) -> None:
        etag = self._spaces.uploads.store_part(
            self._file.path, self._upload_id(), part.number + 1, part.view, part.sha256
        )
        with self._lock:
            self._etags[part.number] = etag
        self._advance()

    def _upload_id(self) -> str:
        """Begins the upload with its first part: a kill leaves none of the files that were still to come.

        Its journal is there before a part is: what is stored without one is never taken up again.
        """
        with self._creation:
            if self._upload is None:
                self._upload = self._spaces.uploads.create(self._file.path)
                if self.resumable:
                    self._ledger.write(self._journal([], ""))
            return self._upload

    def _advance(self) -> None:
        """Writes the journal whenever the run of parts that are both stored and hashed has grown."""
        if not self.resumable:
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
            self._save([self._etags[number] for number in range(count)], state)

    def _save(self, etags: list[str], state: str) -> None:
        self._ledger.save(self._journal(etags, state), lambda error: self._on_written(len(etags), error))

    def _on_written(self, count: int, error: BaseException | None) -> None:
        if error is not None:
            self._uploader.fail(error)
            return
        with self._lock:
            counted = [self._kept.pop(number) for number in list(self._kept) if number < count]
        for part in counted:
            part.release()

    def _journal(self, etags: list[str], state: str, sha256: str = "") -> Journal:
        file = self._file
        return Journal(file.path, file.size, source_of(file), self._part_size, self._upload or "", etags, state, sha256)


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

    def drop(self) -> None:
        """Nothing is kept."""

    def finish(self, sha256: str) -> None:
        """Adopts the object as it was when it was listed."""
        self._agreement.check(sha256)
        self._on_proof(self._file.path, Proof(self._file.size, sha256, self._etag, self._file.blob))

    def restart(self, error: Again) -> Transfer | None:
        """It is not what was published, or it changed while it was read."""
        return self._on_again(self._file, error)


def join(spaces: Spaces, key: str, upload: str, etags: list[str]) -> None:
    """Joins the parts into their object. Raises Gone when neither the upload nor just this object is there."""
    try:
        spaces.uploads.complete(key, upload, etags)
    except Gone:
        # A repeated call after a lost answer looks the same as an upload that was aborted: the object itself tells.
        stored = spaces.listing().objects.get(key)
        if stored is None or stored.etag != multipart_etag(etags):
            raise


def source_of(file: HubFile) -> str:
    """What the Hub publishes for the bytes of a file."""
    return f"sha256:{file.sha256}" if file.sha256 else f"git:{file.blob}"


def wrong_bytes(path: str, error: Again) -> Failure:
    """Bytes that stay wrong."""
    return Failure("wrong-bytes", f"the Hub keeps sending other bytes than it publishes: {error or path}")

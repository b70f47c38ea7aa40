"""Hop 1's small files: fetched and stored whole, many at a time."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import md5
from hashlib import sha256 as hash_sha256
from threading import Event

from failure import Again, Failure
from hub import Hub, HubFile
from lanes import Lanes
from ledger import Proof
from multipart import Agreement, WrongBytes, wrong_bytes
from progress import Progress
from refusal import unreadable
from retry import retry
from small import LANES, uncounted
from spaces import Spaces, Stored
from volley import MOST_BYTES, Answer, Missed, Request, Volley

# Of a batch, all bytes are held at a time.
BATCH_FILES = 512
BATCH_BYTES = 8 * 2**20


@dataclass(eq=False)
class Move:
    """One file on its way: its bytes and their SHA-256, once they have come and are the published ones."""

    file: HubFile
    body: memoryview | bytes = b""
    sha256: str = ""


class SmallUpload:
    """Moves the small files of one commit; on_proof(path, proof) is called for each that is in Spaces."""

    def __init__(
        self,
        commit: str,
        hub: Hub,
        spaces: Spaces,
        progress: Progress,
        stop: Event,
        on_proof: Callable[[str, Proof], None],
    ) -> None:
        self._commit = commit
        self._hub = hub
        self._spaces = spaces
        self._progress = progress
        self._stop = stop
        self._on_proof = on_proof
        self._wrong: Counter[str] = Counter()

    def carry(self, files: list[HubFile], held: Mapping[str, Stored]) -> None:
        """Moves all but those that Spaces holds as they were published; `held` are objects that may be such. Raises Failure."""
        with (
            Lanes(LANES, "small") as lanes,
            Volley(self._hub.connect, self._ask, self._take, self._stop, self._hub.follow) as hub,
            Volley(self._spaces.connect, self._send, self._confirm, self._stop) as spaces,
        ):
            adopted = lanes.map(lambda file: file.path in held and self._adopt(file, held[file.path]), files)
            moves = [Move(file) for file, there in zip(files, adopted, strict=True) if not there]
            few = [move for move in moves if _is_asked_with_others(move.file)]
            for batch in _batches(few):
                lanes.map(self._fetch, hub.carry(batch, lanes, _path))
                lanes.map(self._store, spaces.carry(batch, lanes, _path))
            lanes.map(self._carry_one, [move for move in moves if not _is_asked_with_others(move.file)])

    def _ask(self, move: Move) -> Request:
        return self._hub.whole(self._commit, move.file)

    def _take(self, move: Move, answer: Answer) -> None:
        if not self._keep(move, answer.body):
            raise Missed("other bytes came")

    def _send(self, move: Move) -> Request:
        return self._spaces.storing(move.file.path, move.body, move.sha256)

    def _confirm(self, move: Move, answer: Answer) -> None:
        # Only with keys of KMS it is another; but it may be that of an answer that was another request's.
        if answer.etag != md5(move.body, usedforsecurity=False).hexdigest():
            raise Missed("the ETag is not the body's MD5")
        self._finish(move, answer.etag)

    def _carry_one(self, move: Move) -> None:
        self._fetch(move)
        self._store(move)

    def _fetch(self, move: Move) -> None:
        file, body = move.file, memoryview(bytearray(move.file.size))
        kept = False
        while not kept:
            if file.size:
                retry(lambda: self._hub.fetch(self._commit, file, 0, body, uncounted), self._stop)
            kept = self._keep(move, body)

    def _store(self, move: Move) -> None:
        self._finish(move, self._spaces.put(move.file.path, move.body, move.sha256))

    def _keep(self, move: Move, body: memoryview) -> bool:
        """Keeps the bytes, if they are the published ones; where other ones come again, the Hub is to blame."""
        try:
            move.sha256 = _agree(move.file, body)
        except WrongBytes as error:
            self._wrong[move.file.path] += 1
            if self._wrong[move.file.path] > 1:
                raise wrong_bytes(move.file.path, error) from error
            return False
        move.body = body
        return True

    def _finish(self, move: Move, etag: str) -> None:
        file = move.file
        move.body = b""
        self._on_proof(file.path, Proof(file.size, move.sha256, etag, file.blob))
        self._progress.move(file.path, file.size)

    def _adopt(self, file: HubFile, stored: Stored) -> bool:
        """Reads an object back; whether it is what was published."""
        body = memoryview(bytearray(file.size))
        try:
            self._read_back(file, stored, body)
            sha256 = _agree(file, body)
        except Again as error:
            print(f"moving {file.path} again: {error}", flush=True)
            return False
        self._on_proof(file.path, Proof(file.size, sha256, stored.etag, file.blob))
        self._progress.hash(file.size)
        return True

    def _read_back(self, file: HubFile, stored: Stored, body: memoryview) -> None:
        try:
            if file.size:
                retry(lambda: self._spaces.fetch(file.path, stored, 0, body, uncounted), self._stop)
        except Failure as failure:
            raise unreadable(file.path)(failure) from failure


def _path(move: Move) -> str:
    return move.file.path


def _is_asked_with_others(file: HubFile) -> bool:
    """Of an LFS file the Hub itself has no bytes: it leads to its storage."""
    return 0 < file.size <= MOST_BYTES and file.sha256 is None


def _batches(moves: list[Move]) -> Iterator[list[Move]]:
    batch: list[Move] = []
    size = 0
    for move in moves:
        if batch and (len(batch) == BATCH_FILES or size + move.file.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(move)
        size += move.file.size
    if batch:
        yield batch


def _agree(file: HubFile, body: memoryview) -> str:
    """The bytes' SHA-256. Raises WrongBytes."""
    agreement = Agreement(file)
    agreement.update(body)
    sha256 = hash_sha256(body).hexdigest()
    agreement.check(sha256)
    return sha256

"""What hop 1 leaves in the bucket while it works, so that a killed run is cheap to take up and never looks finished.

All of it lies under reserved names and is removed when the evidence is written:

- `.upload-plan`: the commit this Job resolved, what was proved before, and every path that was ever ours;
- `.upload-journal/<16 hex>`: of one multipart upload, the parts that are stored *and* hashed, with the running hash;
- `.upload-suspect`: paths that hop 2 found wrong, to be read back whatever else speaks for them.

A proof is bound to the ETag the object had when its bytes were hashed: an object replaced later has another one.
"""

import base64
import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from digest import can_restore
from spaces import Spaces, Stored

PLAN = ".upload-plan"
JOURNALS = ".upload-journal/"
SUSPECT = ".upload-suspect"


@dataclass(frozen=True)
class Proof:
    """An object's bytes were hashed when it had this ETag ("" where the server gives none that can be foreseen)."""

    size: int
    sha256: str
    etag: str
    blob: str = ""

    def covers(self, stored: Stored | None) -> bool:
        """Whether the object is still the one that was proved."""
        return stored is not None and stored.size == self.size and stored.etag == self.etag


@dataclass(frozen=True)
class Plan:
    """Written before the first change. `known` are all paths of this and earlier runs, `job` the UID of the Job."""

    model: str
    revision: str
    commit: str
    include: list[str]
    exclude: list[str] | None
    job: str
    proofs: dict[str, Proof] = field(default_factory=dict)
    known: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Journal:
    """Of one multipart upload: `etags` of the parts 1..n that are stored and hashed, `state` the SHA-256 after them.

    `source` is what the Hub published for the file, so that a journal of other bytes is never taken up. `sha256` is set
    once all bytes agreed, before the parts are joined.
    """

    path: str
    size: int
    source: str
    part_size: int
    upload: str
    etags: list[str]
    state: str
    sha256: str = ""

    def restored_state(self) -> bytes | None:
        """The running hash after `etags`, or None where it cannot be used here."""
        state = base64.b64decode(self.state) if self.state else b""
        return state if can_restore(state) else None


class Ledger:
    """Reads and writes these documents; journals are written by a thread of their own, the newest state of each file."""

    def __init__(self, spaces: Spaces) -> None:
        self._spaces = spaces
        self._dirty: dict[str, Journal] = {}
        self._change = threading.Condition()
        self._writing = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def read_plan(self) -> Plan | None:
        """The plan that stands in the bucket; one that cannot be read is none."""
        document = self._read(PLAN)
        try:
            if document is None:
                return None
            proofs = {str(path): Proof(**proof) for path, proof in document.pop("proofs").items()}
            return Plan(**document, proofs=proofs)
        except (TypeError, KeyError, AttributeError) as error:
            print(f"an unreadable {PLAN} is ignored ({error})", flush=True)
            return None

    def write_plan(self, plan: Plan) -> None:
        """Puts the plan."""
        self._spaces.put(PLAN, json.dumps(asdict(plan), ensure_ascii=False).encode())

    def read_suspects(self) -> set[str]:
        """Paths that hop 2 found wrong."""
        document = self._read(SUSPECT)
        paths = document.get("paths") if document else None
        return {str(path) for path in paths} if isinstance(paths, list) else set()

    def write_suspects(self, paths: set[str]) -> None:
        """Leaves word for hop 1 that these objects are not what their evidence says."""
        body = json.dumps({"paths": sorted(paths | self.read_suspects())}, ensure_ascii=False)
        self._spaces.put(SUSPECT, body.encode())

    def read_journals(self, objects: dict[str, Stored]) -> dict[str, Journal]:
        """The journals among these objects, by path."""
        keys = [key for key in objects if key.startswith(JOURNALS)]
        journals: dict[str, Journal] = {}
        with ThreadPoolExecutor(8) as pool:
            for document in pool.map(self._read, keys):
                try:
                    if document is not None:
                        journal = Journal(**document)
                        journals[journal.path] = journal
                except TypeError as error:
                    print(f"an unreadable journal is ignored ({error})", flush=True)
        return journals

    def save(self, journal: Journal) -> None:
        """Writes the journal soon; a newer one of the same file replaces one that waits."""
        with self._change:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
                self._thread.start()
            self._dirty[journal.path] = journal
            self._change.notify_all()

    def flush(self, path: str | None = None, timeout: float | None = None) -> None:
        """Waits until what was saved (of one path, or all) is written. Raises the Failure of a write."""
        with self._change:
            self._change.wait_for(
                lambda: self._error or not (self._writing or (self._dirty if path is None else path in self._dirty)),
                timeout,
            )
            if self._error:
                raise self._error

    def forget(self, path: str) -> None:
        """Removes one journal."""
        with self._change:
            self._dirty.pop(path, None)
        self.flush(path)
        self._spaces.delete(_journal_key(path))

    def clear(self, objects: dict[str, Stored]) -> None:
        """Removes all of these documents among the objects; the plan goes last, since it knows the others' paths."""
        self.flush()
        keys = [key for key in objects if key.startswith(JOURNALS)] + [key for key in (SUSPECT, PLAN) if key in objects]
        for key in keys:
            self._spaces.delete(key)

    def _write(self) -> None:
        while True:
            with self._change:
                self._writing = False
                self._change.notify_all()
                self._change.wait_for(lambda: self._dirty)
                path = next(iter(self._dirty))
                journal = self._dirty.pop(path)
                self._writing = True
            try:
                self._spaces.put(_journal_key(path), json.dumps(asdict(journal), ensure_ascii=False).encode())
            except BaseException as error:
                with self._change:
                    self._error, self._writing = error, False
                    self._change.notify_all()
                return

    def _read(self, key: str) -> dict[str, Any] | None:
        found = self._spaces.read(key)
        if found is None:
            return None
        try:
            document = json.loads(found[0])
        except ValueError:
            print(f"an unreadable {key} is ignored", flush=True)
            return None
        return document if isinstance(document, dict) else None


def encode_state(state: bytes | None) -> str:
    """A running hash as text, empty where there is none."""
    return base64.b64encode(state).decode() if state else ""


def _journal_key(path: str) -> str:
    return JOURNALS + hashlib.sha256(path.encode()).hexdigest()[:16]

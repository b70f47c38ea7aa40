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
import re
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from digest import can_restore
from evidence import objection
from lanes import Lanes
from spaces import Spaces, Stored
from window import SMALLEST_PART

T = TypeVar("T")

PLAN = ".upload-plan"
JOURNALS = ".upload-journal/"
SUSPECT = ".upload-suspect"
# What is unfinished and younger may belong to a run that is alive.
ABANDONED_SECONDS = 15 * 60
# A journal is a request like a part's, and need not follow each. Meanwhile their bytes stay in the window.
PACE_SECONDS = 0.25


@dataclass(frozen=True)
class Proof:
    """An object's bytes were hashed when it had this ETag ("" covers none: it could not be foreseen, so read it back)."""

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
    exclude: list[str]
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
        state = base64.b64decode(self.state)
        length = min(self.size, len(self.etags) * self.part_size)
        return state if can_restore(state, length) else None


class Ledger:
    """Reads and writes these documents; journals that are saved are written by a thread of their own."""

    def __init__(self, spaces: Spaces, model: str) -> None:
        self._spaces = spaces
        self._model = model
        self._saved: dict[str, tuple[Journal, Callable[[BaseException | None], None]]] = {}
        self._change = threading.Condition()
        self._writing: str | None = None
        self._thread: threading.Thread | None = None

    def read_plan(self) -> Plan | None:
        """The plan that stands in the bucket; one that cannot be read, or is of another model, is none."""
        document = self._read(PLAN)
        try:
            return None if document is None else _plan(document, self._model)
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            print(f"an unreadable {PLAN} is ignored ({error})", flush=True)
            return None

    def write_plan(self, plan: Plan) -> None:
        """Puts the plan."""
        self._spaces.put(PLAN, json.dumps(asdict(plan), ensure_ascii=False).encode())

    def read_suspects(self) -> set[str]:
        """Paths that hop 2 found wrong."""
        document = self._read(SUSPECT)
        paths = document.get("paths") if document else None
        if not isinstance(paths, list):
            return set()
        return {path for path in paths if isinstance(path, str) and objection(path) is None}

    def write_suspects(self, paths: set[str]) -> None:
        """Leaves word for hop 1 that these objects are not what their evidence says."""
        body = json.dumps({"paths": sorted(paths | self.read_suspects())}, ensure_ascii=False)
        self._spaces.put(SUSPECT, body.encode())

    def read_journals(self, objects: dict[str, Stored]) -> dict[str, Journal]:
        """The journals among these objects, by path."""
        keys = [key for key in objects if key.startswith(JOURNALS)]
        journals: dict[str, Journal] = {}
        with Lanes(8, "journals") as lanes:
            documents = lanes.map(self._read, keys)
        for document in documents:
            try:
                if document is not None:
                    journal = _journal(document)
                    journals[journal.path] = journal
            except (TypeError, KeyError, ValueError) as error:
                print(f"an unreadable journal is ignored ({error})", flush=True)
        return journals

    def save(self, journal: Journal, on_written: Callable[[BaseException | None], None]) -> None:
        """Writes the journal soon and then calls on_written(None), or on_written(error).

        A newer journal of the same file replaces one that still waits, whose on_written is then never called.
        """
        with self._change:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_saved, name="journal", daemon=True)
                self._thread.start()
            self._saved[journal.path] = (journal, on_written)
            self._change.notify_all()

    def write(self, journal: Journal) -> None:
        """Writes the journal now, in the place of one that still waits."""
        self._withdraw(journal.path)
        self._put(journal)

    def forget(self, path: str) -> None:
        """Removes one journal."""
        self._withdraw(path)
        self._spaces.delete(_journal_key(path))

    def clear(self, objects: dict[str, Stored]) -> None:
        """Removes all of these documents among the objects; the plan goes last, since it knows the others' paths."""
        keys = [key for key in objects if key.startswith(JOURNALS)] + [key for key in (SUSPECT, PLAN) if key in objects]
        for key in keys:
            self._spaces.delete(key)

    def _withdraw(self, path: str) -> None:
        """From here on, nothing that was saved before for this path will be written."""
        with self._change:
            self._saved.pop(path, None)
            self._change.wait_for(lambda: self._writing != path)

    def _write_saved(self) -> None:
        due = 0.0
        while True:
            with self._change:
                self._writing = None
                self._change.notify_all()
                # What is added meanwhile goes along.
                self._change.wait_for(self._is_any_whole, timeout=max(0.0, due - time.monotonic()))
                self._change.wait_for(lambda: self._saved)
                self._writing = next(iter(self._saved))
                journal, on_written = self._saved.pop(self._writing)
            due = time.monotonic() + PACE_SECONDS
            try:
                self._put(journal)
            except BaseException as error:
                on_written(error)
            else:
                on_written(None)

    def _is_any_whole(self) -> bool:
        """Whether a file waits for nothing but its journal."""
        return any(len(journal.etags) * journal.part_size >= journal.size for journal, _ in self._saved.values())

    def _put(self, journal: Journal) -> None:
        self._spaces.put(_journal_key(journal.path), json.dumps(asdict(journal), ensure_ascii=False).encode())

    def _read(self, key: str) -> dict[str, Any] | None:
        found = self._spaces.read(key)
        if found is None:
            return None
        try:
            document = json.loads(found[0])
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            print(f"an unreadable {key} is ignored", flush=True)
            return None
        return document


def abandoned_before(now: datetime) -> datetime:
    """By the server's clock: work whose last write was before this is of no run that may be alive."""
    return now - timedelta(seconds=ABANDONED_SECONDS)


def encode_state(state: bytes | None) -> str:
    """A running hash as text, empty where there is none."""
    return base64.b64encode(state).decode() if state else ""


def _plan(document: dict[str, Any], model: str) -> Plan:
    """Data from outside. Raises TypeError, KeyError, AttributeError or ValueError where it is no plan of this model."""
    plan = Plan(
        model=_of(str, document["model"]),
        revision=_of(str, document["revision"]),
        commit=_match(r"[0-9a-f]{40}", document["commit"]),
        include=_texts(document["include"]),
        exclude=_texts(document["exclude"]),
        job=_of(str, document["job"]),
        proofs={path: _proof(proof) for path, proof in document["proofs"].items()},
        known=_texts(document["known"]),
    )
    if plan.model != model:
        raise ValueError(f"it is of {plan.model!r:.80}")
    for path in plan.known:
        # Each for itself: what is a file at one commit may be a folder at another.
        reason = objection(path)
        if reason is not None:
            raise ValueError(f"the file name {path!r:.80} {reason}")
    return plan


def _proof(document: dict[str, Any]) -> Proof:
    sha256 = _match(r"[0-9a-f]{64}", document["sha256"])
    return Proof(_of(int, document["size"]), sha256, _of(str, document["etag"]), _of(str, document["blob"]))


def _journal(document: dict[str, Any]) -> Journal:
    """Data from outside. Raises TypeError, KeyError or ValueError where it is no journal that this tool could have written."""
    journal = Journal(
        path=_of(str, document["path"]),
        size=_of(int, document["size"]),
        source=_of(str, document["source"]),
        part_size=_of(int, document["part_size"]),
        upload=_of(str, document["upload"]),
        etags=_texts(document["etags"]),
        state=_of(str, document["state"]),
        sha256=_match(r"([0-9a-f]{64})?", document["sha256"]),
    )
    base64.b64decode(journal.state, validate=True)
    if journal.part_size < SMALLEST_PART or journal.size < 0:
        raise ValueError("its sizes are none of an upload")
    parts = -(-journal.size // journal.part_size)
    if len(journal.etags) > parts or (journal.sha256 and len(journal.etags) != parts):
        raise ValueError("its parts are not those of its size")
    return journal


def _of(kind: type[T], value: Any) -> T:
    if type(value) is not kind:
        raise TypeError(f"{value!r:.80} is no {kind.__name__}")
    return value


def _texts(value: Any) -> list[str]:
    return [_of(str, text) for text in _of(list, value)]


def _match(pattern: str, value: Any) -> str:
    if not re.fullmatch(pattern, _of(str, value)):
        raise ValueError(f"{value!r:.80} is no hash")
    return str(value)


def _journal_key(path: str) -> str:
    return JOURNALS + hashlib.sha256(path.encode()).hexdigest()[:16]

"""The evidence: one JSON document that lists the proved files of a model, and that *is* the sentinel of both hops.

It is deterministic (no clock, no host, files sorted by path), so it does not matter which pod writes it. When it is
read it is data from outside: every path is checked before it comes near a file system.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from failure import Failure

SCHEMA = 1
TOOL = "model-storage-pipeline 0.1.0"
UPLOAD_SENTINEL = ".upload-complete"
# What stands under such a name and is larger is no document of this tool's: evidence of 100,000 files takes a third of it.
DOCUMENT_BYTES = 64 * 2**20
# A manifest of 100,000 files takes half of it. What parsing takes is bounded by it too: see _split.
EVIDENCE_BYTES = 32 * 2**20
DOWNLOAD_SENTINEL = ".download-complete"
PARTIAL = re.compile(r"\.[0-9a-f]{8}\.partial$")

_HEX40 = re.compile(r"[0-9a-f]{40}")
_HEX64 = re.compile(r"[0-9a-f]{64}")
_FILES = re.compile(rb'"files"\s*:\s*\[(?:\s*(?=\]))?')
# An object without any other in it, as every entry is: strings are stepped over, whatever stands in them.
_ENTRY = re.compile(rb'\s*+(\{(?:[^{}\[\]"]++|"(?:[^"\\]|\\.)*+")*+\})\s*+([,\]])')
_ENTRY_BYTES = 2**14
# Of everything but the files: Linux hands a program no settings that come near it.
_HEADER_BYTES = 4 * 2**20
# Of an entry without its path.
LISTED_BYTES = len(json.dumps([{"path": "", "size": 10**15, "sha256": "0" * 64}], indent=2)) + 16
_NAME_BYTES = 255
# A key of S3 has 1,024 bytes, and the longest id of the Hub has its part of them.
_PATH_BYTES = 1024 - len(f"models/{'o' * 96}/{'n' * 96}/")


class NotEvidence(Exception):
    """The document is no evidence; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class File:
    """One proved file: path relative to the model, size in bytes, SHA-256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Evidence:
    """What was proved. `include` and `exclude` are the filter as applied."""

    model: str
    revision: str
    commit: str
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    files: tuple[File, ...]

    def equals(self, other: "Evidence | None") -> bool:
        """Whether both prove the same bytes of the same model (the name of the revision does not matter)."""
        return other is not None and self._proof() == other._proof()

    def _proof(self) -> tuple[object, ...]:
        return (self.model, self.commit, self.include, self.exclude, self.files)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def dump(self) -> bytes:
        """The document's bytes."""
        document = {
            "schema": SCHEMA,
            "model": self.model,
            "revision": self.revision,
            "commit": self.commit,
            "include": list(self.include),
            "exclude": list(self.exclude),
            "files": [
                {"path": f.path, "size": f.size, "sha256": f.sha256} for f in sorted(self.files, key=lambda f: f.path)
            ],
            "tool": TOOL,
        }
        return (json.dumps(document, ensure_ascii=False, indent=2) + "\n").encode()


def parse_evidence(body: bytes) -> Evidence:
    """Reads a document. Raises NotEvidence for anything that is not a whole, well-formed, harmless one."""
    try:
        header, files = _split(body)
        document = json.loads(header)
        if not isinstance(document, dict) or document.get("schema") != SCHEMA or document.get("files") != []:
            raise NotEvidence("it is not a manifest of this tool")
        evidence = Evidence(
            model=_text(document["model"]),
            revision=_text(document["revision"]),
            commit=_match(_HEX40, document["commit"]),
            include=tuple(_text(glob) for glob in document["include"]),
            exclude=tuple(_text(glob) for glob in document["exclude"]),
            files=tuple(sorted(files, key=lambda file: file.path)),
        )
        check_paths(file.path for file in files)
    except Failure as failure:
        raise NotEvidence(failure.detail) from failure
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NotEvidence(f"it cannot be read as a manifest ({type(error).__name__}: {error})") from error
    if not files:
        raise NotEvidence("it lists no files")
    return evidence


def demand_evidence(body: bytes, model: str) -> Evidence:
    """Reads a document that has to be of this model. Raises NotEvidence."""
    evidence = parse_evidence(body)
    if evidence.model != model:
        raise NotEvidence(f"it is of {evidence.model}")
    return evidence


def accept_evidence(body: bytes, name: str, model: str, otherwise: str) -> Evidence | None:
    """The same; where it is not, None, after saying why and what follows from that."""
    try:
        return demand_evidence(body, model)
    except NotEvidence as error:
        print(f"{name} proves nothing, {error}: {otherwise}", flush=True)
        return None


def _split(body: bytes) -> tuple[bytes, tuple[File, ...]]:
    """The document without its files, and these. Parsed one by one, since nested lists take 27 times their bytes as Python's."""
    start = _FILES.search(body)
    if len(body) > EVIDENCE_BYTES or start is None:
        raise NotEvidence("it is not a manifest of this tool")
    files: list[File] = []
    position = start.end()
    more = body[position : position + 1] != b"]"
    while more:
        entry = _ENTRY.match(body, position)
        if entry is None or entry.end() - position > _ENTRY_BYTES:
            raise NotEvidence("its list of files cannot be read")
        files.append(_file(json.loads(entry[1])))
        more = entry[2] == b","
        position = entry.end() - (not more)
    if len(body) - position + start.end() > _HEADER_BYTES:
        raise NotEvidence("it is too large for what it says besides its files")
    return body[: start.end()] + body[position:], tuple(files)


def check_paths(paths: Iterable[str]) -> None:
    """Refuses a listing that could leave the model's folder or that a file system cannot hold.

    Raises Failure("hostile-listing") naming the first offender: absolute, empty, `.`/`..` segments, control characters,
    backslashes, over-long names, reserved names, a name twice, a name that is both a file and a folder; or too many.
    """
    seen: set[str] = set()
    listed = _HEADER_BYTES
    for path in paths:
        reason = objection(path)
        if reason is None and path in seen:
            reason = "is listed twice"
        if reason is not None:
            raise Failure("hostile-listing", f"the file name {path!r} {reason}")
        seen.add(path)
        listed += LISTED_BYTES + len(path.encode()) + path.count('"')
    if listed > EVIDENCE_BYTES:
        raise Failure(
            "hostile-listing",
            f"{len(seen)} files are more than evidence can list",
            next="leave some of them out with --include or --exclude",
        )
    for path in seen:
        parent = path.rpartition("/")[0]
        while parent:
            if parent in seen:
                raise Failure("hostile-listing", f"the file name {parent!r} is also a folder, of {path!r}")
            parent = parent.rpartition("/")[0]


def is_reserved(path: str) -> bool:
    """Whether a name inside a model's folder or prefix is the tool's own."""
    return path.startswith((".upload-", ".download-")) or PARTIAL.search(path) is not None


def objection(path: str) -> str | None:
    """Why a path, taken by itself, is none of a model's; None where it may be one."""
    if not path or path.startswith("/"):
        return "is empty or absolute"
    try:
        segments = [segment.encode() for segment in path.split("/")]
    except UnicodeEncodeError:
        return "is no valid unicode"
    if any(segment in (b"", b".", b"..") for segment in segments):
        return "leaves its folder"
    # sha256sum -c, logs and S3 listings each read such names in their own way.
    if any(ord(character) < 32 or ord(character) == 127 for character in path) or "\\" in path:
        return "has a control character or a backslash"
    if any(len(segment) > _NAME_BYTES - len(".01234567.partial") for segment in segments):
        return "is too long for a file system"
    if len(path.encode()) > _PATH_BYTES:
        return "is too long for Spaces"
    if is_reserved(path):
        return "is reserved for this tool"
    return None


def _file(entry: Any) -> File:
    size = entry["size"]
    if type(size) is not int or size < 0:
        raise ValueError("a size is no whole number of bytes")
    return File(_text(entry["path"]), size, _match(_HEX64, entry["sha256"]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _match(pattern: re.Pattern[str], value: object) -> str:
    if not pattern.fullmatch(_text(value)):
        raise ValueError(f"{value!r} is no hash")
    return str(value)

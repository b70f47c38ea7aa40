"""The journal of hop 2 on the volume: what was proved so far, and what was ever ours.

While hop 2 works, `.download-journal` holds one JSON line for every file that was proved (with the time the file had
then) and for every path that was ever ours, so that a killed run is cheap to take up. It goes when the evidence is there.
On a full volume, which takes no such line, the paths stand in evidence that was put out of force by a rename.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import astuple
from typing import Any

from evidence import DOWNLOAD_SENTINEL, EVIDENCE_BYTES, LISTED_BYTES, File, NotEvidence, demand_evidence, objection
from failure import Failure
from mark import Mark
from volume import Volume, naming, open_file

JOURNAL = ".download-journal"
RETIRED = ".download-removed"
# That of 100,000 files takes a tenth of it.
JOURNAL_BYTES = 256 * 2**20
# More than any line of ours: the longest path, escaped.
LINE_BYTES = 2**16


class DownloadJournal:
    """One model's. Every pod of the Job writes to the same."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume

    def append(self, files: list[tuple[File, Mark | None]], *, begun: str = "") -> None:
        """Adds proved files (with a mark), or paths that are ours and proved no more (without).

        `begun` says which evidence a run is after.
        """
        lines = [json.dumps({"begun": begun})] if begun else []
        lines += [
            json.dumps(
                {
                    "path": f.path,
                    "size": f.size,
                    "sha256": f.sha256,
                    "mark": astuple(m) if m else None,
                }
            )
            for f, m in files
        ]
        with naming(JOURNAL), open(self._volume.folder / JOURNAL, "ab", opener=open_file) as journal:
            # A line of its own: the one before may have been torn by a kill.
            journal.write(("\n" + "\n".join(lines) + "\n").encode())
            journal.flush()
            os.fsync(journal.fileno())

    def read(self) -> tuple[dict[str, tuple[File, Mark]], set[str]]:
        """Proved files by path with their marks, and all paths that were ever ours. A later line of a path counts."""
        proved: dict[str, tuple[File, Mark]] = {}
        known: set[str] = set()
        for file, mark in self._files(known):
            proved.pop(file.path, None)
            if mark is not None:
                proved[file.path] = (file, mark)
        return proved, known

    def paths(self) -> set[str]:
        """The paths alone, for a quarter of the memory."""
        known: set[str] = set()
        for _ in self._files(known):
            continue
        return known

    def begun(self) -> str | None:
        """Which evidence the run that began last is after; None where the journal does not say."""
        last: str | None = None
        for entry in self._entries():
            if isinstance(entry, dict) and isinstance(entry.get("begun"), str):
                last = entry["begun"]
        return last

    def retire_evidence(self) -> None:
        """Puts the evidence out of force without losing its paths, and without a byte of room."""
        with naming(DOWNLOAD_SENTINEL), suppress(FileNotFoundError):
            os.replace(self._volume.folder / DOWNLOAD_SENTINEL, self._volume.folder / RETIRED)
        self._volume.sync_folder(self._volume.folder)

    def remove(self) -> None:
        """Goes last, behind all that it speaks of."""
        self._volume.remove(RETIRED)
        self._volume.remove(JOURNAL)

    def _files(self, known: set[str]) -> Iterator[tuple[File, Mark | None]]:
        """Adds every path to `known`; refuses more of them than the evidence of two commits can list."""
        retired = self._volume.read(RETIRED)
        if retired is not None:
            with suppress(NotEvidence):
                known.update(file.path for file in demand_evidence(retired[0], self._volume.model).files)
        listed = 0
        for entry in self._entries():
            try:
                file = File(str(entry["path"]), int(entry["size"]), str(entry["sha256"]))
                mark = Mark(*entry["mark"]) if entry["mark"] else None
            except (ValueError, KeyError, TypeError, OverflowError):
                continue
            if file.path not in known and not objection(file.path):
                known.add(file.path)
                listed += LISTED_BYTES + len(file.path)
            if listed > 2 * EVIDENCE_BYTES:
                raise Failure("volume-obstacle", f"{JOURNAL} on the volume lists more files than evidence can")
            if file.path in known:
                yield file, mark

    def _entries(self) -> Iterator[Any]:
        """A line at a time: what the journal knows must not be lost for its size. Torn lines are passed over."""
        with naming(JOURNAL):
            try:
                with open(self._volume.folder / JOURNAL, "rb", opener=open_file) as journal:
                    size = os.fstat(journal.fileno()).st_size
                    if size > JOURNAL_BYTES:
                        raise Failure(
                            "volume-obstacle", f"{JOURNAL} on the volume is no journal of this tool: {size} B"
                        )
                    while line := journal.readline(LINE_BYTES):
                        try:
                            yield json.loads(line)
                        except (ValueError, RecursionError):
                            continue
            except FileNotFoundError:
                return

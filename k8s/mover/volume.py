"""The model's folder on the volume: safe paths, and errors with a cause."""

import errno
import os
import stat
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from evidence import EVIDENCE_BYTES, is_reserved
from failure import Failure
from mark import Mark

_CAUSES = {
    errno.ENOSPC: "no-space",
    errno.EDQUOT: "no-space",
    errno.EFBIG: "no-space",
    errno.EROFS: "read-only",
    errno.EACCES: "volume-denied",
    errno.EPERM: "volume-denied",
    errno.ENOTDIR: "volume-obstacle",
    errno.EISDIR: "volume-obstacle",
    errno.ELOOP: "volume-obstacle",
    errno.ENOTEMPTY: "volume-obstacle",
    errno.EEXIST: "volume-obstacle",
    errno.ENXIO: "volume-obstacle",
    errno.ENAMETOOLONG: "volume-obstacle",
}


@contextmanager
def naming(path: object) -> Iterator[None]:
    """Turns an OSError of the volume into a Failure that names the path and the cause."""
    try:
        yield
    except OSError as error:
        cause = _CAUSES.get(error.errno or 0, "volume-io")
        raise Failure(cause, f"{path} on the volume: {error.strerror or error}") from error


class Volume:
    """One model's folder. Paths are relative to it and come from evidence, so that they cannot leave it by name."""

    def __init__(self, root: Path, model: str) -> None:
        self._root = root
        self.model = model
        self.folder = root / model

    def read(self, name: str) -> tuple[bytes, os.stat_result] | None:
        """A document's bytes and status, or None when it is not there; no bytes where it is too large to be one."""
        with naming(name):
            try:
                with open(self.folder / name, "rb", opener=open_file) as file:
                    status = os.fstat(file.fileno())
                    return file.read() if status.st_size <= EVIDENCE_BYTES else b"", status
            except FileNotFoundError:
                return None

    def open(self, path: str) -> int:
        """Opens a file for reading."""
        with naming(path):
            return open_file(self.folder / path, os.O_RDONLY)

    def status(self, path: str) -> os.stat_result | None:
        """lstat of a path, or None when it is not there. Raises Failure where a link stands for one of its folders."""
        return self.statuses([path])[path]

    def statuses(self, paths: Iterable[str]) -> dict[str, os.stat_result | None]:
        """The same of many paths; each folder is looked at once."""
        found: dict[str, os.stat_result | None] = {}
        checked: set[str] = set()
        for path in paths:
            folder = os.path.dirname(path)
            if folder not in checked:
                self.check_parents(path, files=False)
                checked.add(folder)
            with naming(path):
                try:
                    found[path] = os.lstat(f"{self.folder}/{path}")
                except (FileNotFoundError, NotADirectoryError):
                    found[path] = None
        return found

    def mark(self, path: str) -> Mark | None:
        """The mark of a regular file, None for anything else."""
        return self.marks([path])[path]

    def marks(self, paths: Iterable[str]) -> dict[str, Mark | None]:
        """The same of many paths."""
        return {
            path: Mark.of(status) if status is not None and stat.S_ISREG(status.st_mode) else None
            for path, status in self.statuses(paths).items()
        }

    def make_parents(self, path: str) -> None:
        """Makes the folders above a path; they are real folders, never links out of the model."""
        self.check_parents(path)
        with naming(path):
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        self.check_parents(path)

    def check_parents(self, path: str, *, files: bool = True, removed: Container[str] = ()) -> None:
        """No link may stand between the model's folder and its file: it could lead out of it.

        With `files`, no file either, but for those that will be removed first. Raises Failure("volume-obstacle").
        """
        # By hand, not by Path: this is asked of each folder at every look.
        walked = str(self._root)
        for segment in f"{self.model}/{path}".split("/")[:-1]:
            walked = f"{walked}/{segment}"
            with naming(path):
                try:
                    mode = os.lstat(walked).st_mode
                except (FileNotFoundError, NotADirectoryError):
                    return
            if stat.S_ISDIR(mode):
                continue
            if stat.S_ISLNK(mode) or (files and os.path.relpath(walked, self.folder) not in removed):
                raise Failure("volume-obstacle", f"{walked} on the volume is no folder, and {path} has to lie in it")

    def folders_at(self, paths: Iterable[str]) -> list[str]:
        """Those of the paths at which a folder stands."""
        statuses = self.statuses(paths)
        return [path for path, status in statuses.items() if status is not None and stat.S_ISDIR(status.st_mode)]

    def check_place(self, path: str, removed: Container[str]) -> None:
        """What goes first may be all that is in a folder that stands in a file's place. Raises Failure("volume-obstacle")."""
        held = next((name for name in self.files(path) if name not in removed), None)
        if held is not None:
            raise Failure(
                "volume-obstacle", f"{path} on the volume is a folder that holds {held}, and has to be a file"
            )

    def clear_place(self, path: str) -> None:
        """Removes the empty folders that stand in a file's place."""
        if self.folders_at([path]):
            with naming(path):
                for folder, _, _ in os.walk(self.folder / path, topdown=False):
                    os.rmdir(folder)

    def remove(self, path: str) -> None:
        """Removes a file and the folders that this leaves empty; one that is not there, or a folder now, is fine."""
        status = self.status(path)
        if status is not None and not stat.S_ISDIR(status.st_mode):
            with naming(path):
                (self.folder / path).unlink(missing_ok=True)
        self.remove_parents(path)

    def remove_parents(self, path: str) -> None:
        """Removes the folders above a path that are empty, below the model's."""
        self.check_parents(path, files=False)
        _remove_empty((self.folder / path).parent, self.folder)

    def remove_empty(self) -> None:
        """Removes the model's folder and its organisation's, each only when nothing is in it."""
        _remove_empty(self.folder, self._root)

    def sync_folder(self, folder: Path) -> None:
        """Makes renames in a folder last."""
        with naming(folder):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def sync_above(self, paths: Iterable[str]) -> None:
        """Makes last that these paths are there: every folder above them, up to the mount."""
        folders: set[Path] = set()
        for name in {os.path.dirname(path) for path in paths}:
            folder = self.folder / name
            while folder != self._root.parent and folder not in folders:
                folders.add(folder)
                folder = folder.parent
        for folder in sorted(folders, reverse=True):
            # Above the model's, one that we may not read has had its name for long.
            if folder.is_relative_to(self.folder) or os.access(folder, os.R_OK):
                self.sync_folder(folder)

    def free(self) -> int:
        """Bytes that may still be written."""
        with naming(self.folder):
            existing = next(path for path in (self.folder, *self.folder.parents) if path.is_dir())
            status = os.statvfs(existing)
            return status.f_bavail * status.f_frsize

    def files(self, below: str = "") -> Iterator[str]:
        """Every path below the folder that is no folder, or one that is closed to us; the tool's own documents too."""
        top = self.folder / below
        closed: list[str] = []

        def pass_by(error: OSError) -> None:
            # Somebody's own: to us a name like that of any file that nobody knows.
            if error.errno not in (errno.EACCES, errno.EPERM) or error.filename == str(self.folder):
                raise error
            closed.append(error.filename)

        with naming(self.folder):
            if not top.is_dir():
                return
            for parent, folders, names in os.walk(top, onerror=pass_by):
                # A link to a folder is counted among the folders, though nobody goes into it.
                links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
                for name in names + links:
                    yield os.path.relpath(os.path.join(parent, name), self.folder)
            for name in closed:
                yield os.path.relpath(name, self.folder)

    def unknown(self, known: set[str]) -> list[str]:
        """Files that neither the evidence lists nor this tool owns."""
        return sorted(path for path in self.files() if path not in known and not is_reserved(path))


def _remove_empty(folder: Path, top: Path) -> None:
    """Removes a folder and those above it, below `top`, up to the first in which something is."""
    while folder != top:
        with naming(folder):
            try:
                folder.rmdir()
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    return
                if error.errno != errno.ENOENT:
                    raise
        folder = folder.parent


def open_file(path: str | Path, flags: int) -> int:
    """Opens a regular file and nothing else: a link may lead out of the model, and whoever opens a pipe waits for ever."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.ENXIO, "it is no file")
    return descriptor

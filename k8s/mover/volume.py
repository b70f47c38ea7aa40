"""The model's folder on the volume: safe paths, errors with a cause, and what a killed run left there."""

import errno
import fcntl
import os
import secrets
import stat
import threading
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from evidence import EVIDENCE_BYTES, PARTIAL, File, is_reserved
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
# A mount without a lock manager: runs that race still write the same bytes, and look at the inode before the rename.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


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
        # The partials that this run has locked, as they were when it last showed that it lives.
        self._held: dict[str, Mark | None] = {}
        self._lock = threading.Lock()

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

    def partial(self, file: File) -> str:
        """Where a file's bytes stand until they are proved."""
        return f"{file.path}.{file.sha256[:8]}.partial"

    def open_partial(self, file: File) -> int | None:
        """Opens (or makes) the partial for reading and writing under a lock; None while another run holds it."""
        with naming(self.partial(file)):
            descriptor = self._open_locked(self.partial(file), os.O_CREAT)
        if descriptor is not None:
            with self._lock:
                self._held[self.partial(file)] = None
        return descriptor

    def close_partial(self, file: File, descriptor: int) -> None:
        """Gives the partial back as it is."""
        self._let_go(file)
        os.close(descriptor)

    def drop_partial(self, file: File, descriptor: int) -> None:
        """Removes a partial that cannot be used, so that the next one of its name lies elsewhere on the disk."""
        self._let_go(file)
        with naming(file.path):
            if self._still_names(self.partial(file), descriptor):
                os.unlink(self.folder / self.partial(file))
            os.close(descriptor)

    def show_life(self) -> None:
        """Touches the partials that are locked and were not written lately, for whoever waits for one of them."""
        with self._lock:
            held = list(self._held)
        for name in held:
            # A touch that came after the rename would make the file another one than was proved.
            with self._lock, naming(name):
                if name not in self._held:
                    continue
                mark = self.mark(name)
                if mark is not None and mark == self._held[name]:
                    os.utime(self.folder / name, follow_symlinks=False)
                self._held[name] = mark

    def _let_go(self, file: File) -> None:
        with self._lock:
            self._held.pop(self.partial(file), None)

    def place(self, file: File, descriptor: int) -> Mark | None:
        """Puts the partial behind the descriptor in its place, closes it and gives the file's mark.

        None when the partial is no longer there under its name: another run took it away.
        """
        self._let_go(file)
        with naming(file.path):
            named = self._still_names(self.partial(file), descriptor)
            if named:
                os.replace(f"{self.folder}/{self.partial(file)}", f"{self.folder}/{file.path}")
            mark = Mark.of(os.fstat(descriptor))
            os.close(descriptor)
        return mark if named else None

    def write_document(self, name: str, body: bytes) -> None:
        """Writes a document so that it is there whole or not at all, and stays after a power cut."""
        # A name of its own: another run may be writing the same document.
        temporary = f"{name}.{secrets.token_hex(4)}.partial"
        with naming(name):
            descriptor = self._open_locked(temporary, os.O_CREAT)
            if descriptor is None:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            with open(descriptor, "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
                os.replace(self.folder / temporary, self.folder / name)
        self.sync_folder(self.folder)

    def discard(self, name: str) -> None:
        """Removes a partial, unless a run that is alive holds it."""
        with naming(name):
            try:
                descriptor = self._open_locked(name, 0)
            except FileNotFoundError:
                return
            except OSError as error:
                # A link, a pipe or the like: none of ours, under a name that is.
                if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM):
                    raise
                self.remove(name)
                return
            if descriptor is not None:
                (self.folder / name).unlink(missing_ok=True)
                # First: on NFS a removed file that is open has another name in its folder, which could not go then.
                os.close(descriptor)
                self.remove_parents(name)

    def _open_locked(self, name: str, flags: int) -> int | None:
        while True:
            descriptor = open_file(f"{self.folder}/{name}", os.O_RDWR | flags)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    os.close(descriptor)
                    raise
            if self._still_names(name, descriptor):
                return descriptor
            # Another run renamed or removed it between our open and our lock.
            os.close(descriptor)

    def _still_names(self, path: str, descriptor: int) -> bool:
        try:
            named, opened = os.lstat(f"{self.folder}/{path}"), os.fstat(descriptor)
        except FileNotFoundError:
            return False
        return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)

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

    def unfinished(self) -> list[str]:
        """Partials of this tool."""
        return [path for path in self.files() if PARTIAL.search(path)]

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

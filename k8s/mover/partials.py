"""What stands beside its place on the volume until it is proved: its names, the locks on it, and what a killed run left."""

import errno
import fcntl
import os
import resource
import secrets
import threading
import time

from evidence import PARTIAL, File
from failure import Failure, Stopped
from mark import Mark
from volume import Volume, naming, open_file

# A lock whose holder shows no life for this long belongs to nobody that could finish, and how often this run shows its own:
# it may hash for hours, or wait as long as Spaces asks for, before it writes the next byte of what it has locked.
HELD_SECONDS = 600.0
LIFE_SECONDS = 30.0
# How often the lock of another live run is tried again.
LOCK_SECONDS = 1.0

# A mount without a lock manager: runs that race still write the same bytes, and look at the inode before the rename.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class Partials:
    """Those of one model. A run that writes one holds its lock, and others wait for it or leave it alone."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        # The partials that this run has locked, as they were when it last showed that it lives.
        self._held: dict[str, Mark | None] = {}
        self._lock = threading.Lock()

    def name(self, file: File) -> str:
        """Where a file's bytes stand until they are proved."""
        return f"{file.path}.{file.sha256[:8]}.partial"

    def unfinished(self) -> list[str]:
        """Partials of this tool."""
        return [path for path in self._volume.files() if PARTIAL.search(path)]

    def open(self, file: File) -> int | None:
        """Opens (or makes) the partial for reading and writing under a lock; None while another run holds it."""
        with naming(self.name(file)):
            descriptor = self._open_locked(self.name(file), os.O_CREAT)
        if descriptor is not None:
            with self._lock:
                self._held[self.name(file)] = None
        return descriptor

    def await_lock(self, file: File, stop: threading.Event) -> int:
        """Opens the partial as soon as no other run holds it. Raises Failure("volume-io") where that one shows no life."""
        descriptor = self.open(file)
        if descriptor is None:
            print(f"waiting: another run is writing {file.path}", flush=True)
        seen, since = self._volume.mark(self.name(file)), time.monotonic()
        while descriptor is None:
            if stop.wait(LOCK_SECONDS):
                raise Stopped()
            descriptor = self.open(file)
            mark = self._volume.mark(self.name(file))
            if mark != seen:
                seen, since = mark, time.monotonic()
            elif time.monotonic() - since > HELD_SECONDS:
                raise Failure(
                    "volume-io",
                    f"another run holds {file.path} and has shown no life for {HELD_SECONDS:.0f} s",
                    next="look for another run of this model that hangs, in other clusters too, and end it; then run again",
                )
        return descriptor

    def close(self, file: File, descriptor: int) -> None:
        """Gives the partial back as it is."""
        self._let_go(file)
        os.close(descriptor)

    def drop(self, file: File, descriptor: int) -> None:
        """Removes a partial that cannot be used, so that the next one of its name lies elsewhere on the disk."""
        self._let_go(file)
        with naming(file.path):
            if self._still_names(self.name(file), descriptor):
                os.unlink(self._volume.folder / self.name(file))
            os.close(descriptor)

    def place(self, file: File, descriptor: int) -> Mark | None:
        """Puts the partial behind the descriptor in its place, closes it and gives the file's mark.

        None when the partial is no longer there under its name: another run took it away.
        """
        self._let_go(file)
        with naming(file.path):
            named = self._still_names(self.name(file), descriptor)
            if named:
                os.replace(f"{self._volume.folder}/{self.name(file)}", f"{self._volume.folder}/{file.path}")
            mark = Mark.of(os.fstat(descriptor))
            os.close(descriptor)
        return mark if named else None

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
                self._volume.remove(name)
                return
            if descriptor is not None:
                (self._volume.folder / name).unlink(missing_ok=True)
                # First: on NFS a removed file that is open has another name in its folder, which could not go then.
                os.close(descriptor)
                self._volume.remove_parents(name)

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
                os.replace(self._volume.folder / temporary, self._volume.folder / name)
        self._volume.sync_folder(self._volume.folder)

    def show_life(self, stop: threading.Event) -> None:
        """Until `stop`: touches what is locked and was not written lately, for whoever waits for one of them."""
        threading.Thread(target=self._show_life, args=(stop,), name="life", daemon=True).start()

    def _show_life(self, stop: threading.Event) -> None:
        while not stop.wait(LIFE_SECONDS):
            try:
                self._touch()
            except Failure as failure:
                print(f"could not show other runs that this one lives: {failure.detail}", flush=True)

    def _touch(self) -> None:
        with self._lock:
            held = list(self._held)
        for name in held:
            # A touch that came after the rename would make the file another one than was proved.
            with self._lock, naming(name):
                if name not in self._held:
                    continue
                mark = self._volume.mark(name)
                if mark is not None and mark == self._held[name]:
                    os.utime(self._volume.folder / name, follow_symlinks=False)
                self._held[name] = mark

    def _let_go(self, file: File) -> None:
        with self._lock:
            self._held.pop(self.name(file), None)

    def _open_locked(self, name: str, flags: int) -> int | None:
        while True:
            descriptor = open_file(f"{self._volume.folder}/{name}", os.O_RDWR | flags)
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
            named, opened = os.lstat(f"{self._volume.folder}/{path}"), os.fstat(descriptor)
        except FileNotFoundError:
            return False
        return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


def allow_open_files(count: int) -> None:
    """Lets so many partials be open at once: every large file's is, so that its lock is held from the start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 512
    if soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )

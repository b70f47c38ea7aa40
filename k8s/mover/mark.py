"""How a file on the volume looked when it was hashed, so that a change since then shows without another look at its bytes."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mark:
    """What tells whether a file is still the one that was hashed: size in bytes, mtime in ns, inode, ctime in ns.

    The server sets the ctime, and nobody can put it back. A rename sets it too: the mark is taken behind that.
    """

    size: int
    mtime_ns: int
    inode: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Mark":
        """The mark in a file's status."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)


def is_newer(status: os.stat_result, document: os.stat_result) -> bool:
    """Whether a file may have changed since a document that speaks of it was written; all of it by the server's clock.

    A file's ctime tells a change behind a mtime that was put back. The document's is no yardstick: chown -R and the like
    make it newer than every change before them.
    """
    return max(status.st_mtime_ns, status.st_ctime_ns) > min(document.st_mtime_ns, document.st_ctime_ns)

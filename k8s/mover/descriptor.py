"""The bytes of a file that is open: written at an offset, and hashed as the server has them, without filling the page cache."""

import errno
import os
from collections.abc import Callable

from digest import Sha256

# Written this often, so that the page cache of a small pod never fills with dirty pages and the last fsync is short.
STEP = 32 * 2**20


def write_at(descriptor: int, view: memoryview, start: int) -> None:
    """Writes all of `view` at an offset; a short write goes on."""
    written = 0
    while written < len(view):
        written += os.pwrite(descriptor, view[written:], start + written)


def drop_cache(descriptor: int, start: int, length: int) -> None:
    """Gives clean cached pages back; only advice, so a file system without it is fine."""
    try:
        os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)
    except OSError:
        return


def hash_descriptor(descriptor: int, length: int, on_bytes: Callable[[int], None]) -> Sha256:
    """Hashes the first `length` bytes of a file, a chunk at a time, dropping its pages behind it. EOFError when it is shorter."""
    digest = Sha256()
    chunk = memoryview(bytearray(min(4 * 2**20, length)))
    start = 0
    while start < length:
        piece = chunk[: min(len(chunk), length - start)]
        count = os.preadv(descriptor, [piece], start)
        if not count:
            raise EOFError(f"ends at {start} of {length} bytes")
        digest.update(piece[:count])
        start += count
        on_bytes(count)
        if start % STEP < count:
            drop_cache(descriptor, max(0, start - STEP), STEP)
    return digest


def hash_stored(descriptor: int, length: int, on_bytes: Callable[[int], None]) -> Sha256 | None:
    """The same of what the server stores, which this node's cache may be ahead of; None where it is shorter or unreadable.

    Once fsync has failed, the cache calls clean what the disk does not have: so it is emptied before the first read.
    """
    os.fsync(descriptor)
    drop_cache(descriptor, 0, 0)
    try:
        return hash_descriptor(descriptor, length, on_bytes)
    except EOFError:
        return None
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return None

"""Hashes: a SHA-256 whose state survives a kill, and the Hub's git blob id.

hashlib cannot save a running hash. OpenSSL's SHA256_CTX is a plain struct of 112 bytes (openssl/sha.h, unchanged since
0.9.8), so its low-level calls through ctypes can; they are as fast as hashlib and release the GIL as well. Where the
library differs from what is expected here, the digest still works but has no state, and a resumed file starts again.
"""

import ctypes
import hashlib
from functools import cache


class _Context(ctypes.Structure):
    _fields_ = (
        ("h", ctypes.c_uint32 * 8),
        ("low", ctypes.c_uint32),
        ("high", ctypes.c_uint32),
        ("data", ctypes.c_uint32 * 16),
        ("num", ctypes.c_uint),
        ("md_len", ctypes.c_uint),
    )


STATE_BYTES = ctypes.sizeof(_Context)


@cache
def _openssl() -> ctypes.CDLL | None:
    """libcrypto, if saving and restoring its state agrees with hashlib; otherwise None."""
    try:
        library = ctypes.CDLL("libcrypto.so.3")
        for name, arguments in (
            ("SHA256_Init", [ctypes.POINTER(_Context)]),
            ("SHA256_Update", [ctypes.POINTER(_Context), ctypes.c_void_p, ctypes.c_size_t]),
            ("SHA256_Final", [ctypes.c_char_p, ctypes.POINTER(_Context)]),
        ):
            getattr(library, name).argtypes = arguments
    except (OSError, AttributeError):
        return None
    sample = bytearray(range(256)) * 5
    first = _OpensslSha256(library)
    first.update(memoryview(sample)[:777])
    second = _OpensslSha256(library, first.state())
    second.update(memoryview(sample)[777:])
    return library if second.hexdigest() == hashlib.sha256(sample).hexdigest() else None


class _OpensslSha256:
    def __init__(self, library: ctypes.CDLL, state: bytes | None = None) -> None:
        self._library = library
        self._context = _Context()
        if state is None:
            library.SHA256_Init(ctypes.byref(self._context))
        else:
            ctypes.memmove(ctypes.byref(self._context), state, STATE_BYTES)

    def update(self, view: memoryview) -> None:
        start = ctypes.addressof(ctypes.c_char.from_buffer(view)) if view.nbytes else None
        self._library.SHA256_Update(ctypes.byref(self._context), start, view.nbytes)

    def state(self) -> bytes:
        return bytes(self._context)

    def hexdigest(self) -> str:
        final = _Context.from_buffer_copy(self._context)
        out = ctypes.create_string_buffer(32)
        self._library.SHA256_Final(out, ctypes.byref(final))
        return out.raw.hex()


class Sha256:
    """A running SHA-256 over writable buffers; `state()` gives 112 bytes to go on from later, or None where it cannot."""

    def __init__(self, state: bytes | None = None) -> None:
        library = _openssl()
        if library is not None:
            self._hash: _OpensslSha256 | None = _OpensslSha256(library, state)
        elif state is not None:
            raise ValueError("this machine cannot restore a saved SHA-256")
        else:
            self._hash = None
            self._plain = hashlib.sha256()

    def update(self, view: memoryview) -> None:
        """Adds a contiguous, writable view of bytes."""
        if self._hash is not None:
            self._hash.update(view)
        else:
            self._plain.update(view)

    def state(self) -> bytes | None:
        """The running state, or None where it cannot be saved."""
        return self._hash.state() if self._hash is not None else None

    def hexdigest(self) -> str:
        """The hash of all bytes so far; the running hash can go on."""
        return self._hash.hexdigest() if self._hash is not None else self._plain.hexdigest()


def can_restore(state: bytes, length: int) -> bool:
    """Whether a saved state can be used here, and is one after `length` bytes.

    OpenSSL trusts its struct: a fill count of the last block that no real one has makes it write past its end.
    """
    if len(state) != STATE_BYTES or _openssl() is None:
        return False
    context = _Context.from_buffer_copy(state)
    bits = context.high << 32 | context.low
    return bits == length * 8 and context.num == length % 64 and context.md_len == 32


class GitBlob:
    """The id git gives a file of `size` bytes: SHA-1 over a header and the bytes."""

    def __init__(self, size: int) -> None:
        self._hash = hashlib.sha1(b"blob %d\x00" % size, usedforsecurity=False)

    def update(self, view: memoryview | bytes) -> None:
        """Adds bytes, in file order."""
        self._hash.update(view)

    def hexdigest(self) -> str:
        """40 hex characters."""
        return self._hash.hexdigest()


def multipart_etag(etags: list[str]) -> str | None:
    """The ETag S3 gives an object made of parts with these ETags, or None where they are not MD5s (SSE-C, some servers)."""
    if not all(len(etag) == 32 and all(c in "0123456789abcdef" for c in etag) for etag in etags):
        return None
    joined = b"".join(bytes.fromhex(etag) for etag in etags)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(etags)}"

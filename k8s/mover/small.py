"""Small files, which both hops move whole and many at a time: their cost is the requests, not the bytes."""

# Bytes up to which a file is one.
SMALL = 2**20
LANES = 32


def uncounted(piece: memoryview) -> None:
    """For on_chunk: a small file is counted when it is there."""

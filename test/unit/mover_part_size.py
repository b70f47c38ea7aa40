# ruff: noqa: S101 (a test)
"""A table of file sizes and budgets: the parts that a file is moved in, and how many of them fit in memory at once."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "k8s/mover"))

from failure import Failure
from window import part_size

MIB = 2**20
GB = 10**9
BUFFER = 256 * MIB
# What S3 takes: the least bytes of a part that is not the last one, and the most parts of an object.
LEAST, MOST = 5 * MIB, 10_000

# size, buffer, MiB of a part, parts that the buffer holds
FITS = [
    (0, BUFFER, 8, 32),
    (1, BUFFER, 8, 32),
    (83 * GB, BUFFER, 8, 32),
    (84 * GB, BUFFER, 9, 28),
    # A budget of less than 32 such parts is cut finer, down to what S3 takes.
    (GB, 224 * MIB, 7, 32),
    (GB, 128 * MIB, 5, 25),
    (MOST * LEAST, 128 * MIB, 5, 25),
    (MOST * LEAST + 1, 128 * MIB, 6, 21),
    (GB, 8192 * MIB, 8, 1024),
    (500 * GB, BUFFER, 48, 5),
    (1000 * GB, BUFFER, 96, 2),
    (5000 * GB, 1024 * MIB, 477, 2),
    (5000 * GB, 8192 * MIB, 477, 17),
    # Exactly two parts are enough.
    (GB, 10 * MIB, 5, 2),
    (500 * GB, 96 * MIB, 48, 2),
]
# size, buffer, bytes of the parts that it would need
FAILS = [
    (1, 10 * MIB - 1, 5 * MIB),
    (500 * GB, 96 * MIB - 1, 48 * MIB),
    (5000 * GB, BUFFER, 477 * MIB),
]


def check_fit(size: int, buffer: int, mebibytes: int, slots: int) -> None:
    part = part_size(size, buffer)
    assert part == mebibytes * MIB, (part, "bytes a part")
    assert part >= LEAST, "S3 joins no smaller parts"
    assert -(-size // part) <= MOST, "S3 joins no more parts"
    assert buffer // part == slots, (buffer // part, "parts in memory")


def check_failure(size: int, buffer: int, part: int) -> None:
    try:
        given = part_size(size, buffer)
    except Failure as failure:
        assert failure.cause == "bad-settings", failure.cause
        for number in (size, buffer, part):
            assert str(number) in str(failure), (str(failure), "names the numbers")
        return
    raise AssertionError(f"{given} bytes a part, and the buffer holds no two of them")


def check_limit() -> None:
    """A server may take fewer parts."""
    assert part_size(MOST * LEAST, 128 * MIB, MOST - 1) == 6 * MIB


def check_growth() -> None:
    """The larger a file, the larger its parts, and the fewer of them at once."""
    parts = [part_size(size, 1024 * MIB) for size in range(0, 5000 * GB, 7 * GB)]
    assert parts == sorted(parts)
    assert len(set(parts)) > 100, "parts grow by the MiB"


for row in FITS:
    check_fit(*row)
    print("fits", *row)
for row in FAILS:
    check_failure(*row)
    print("fails", *row)
check_limit()
check_growth()
print("done")

"""What is measured and how much of it: defaults and flags."""

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / ".cache" / "bench"
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
ROWS = ("hop1", "hop2", "small", "memory")
CONTENDERS = ("spec", "s5cmd", "floor", "ours")


@dataclass(frozen=True)
class Settings:
    """Sizes in bytes, the rate in Mbit/s each way."""

    size: int
    turns: int
    rate: int
    small_files: int
    small_size: int
    memory_sizes: tuple[int, int]
    rows: tuple[str, ...]
    contenders: tuple[str, ...]
    json: Path

    def link_seconds(self, size: int) -> float:
        """The time the bytes alone take at the link's rate; headers of Ethernet, IP and TCP add 4.6 % to it."""
        return size * 8 / (self.rate * 1e6)


def read_settings(arguments: list[str]) -> Settings:
    """Reads the flags; a wrong one ends the process with 2 and a line that names it."""
    parser = argparse.ArgumentParser(
        prog="bench.py",
        description="Measures this pipeline beside the spec's own, s5cmd, and what the link allows.",
        epilog="Sizes are such as 4GB, 200MB, 10KB, 1GiB. The claims in the README take --size 4GB --turns 3.",
    )
    parser.add_argument("--size", type=size, default="1GB", help="bytes of the model (default %(default)s)")
    parser.add_argument("--turns", type=positive, default=1, help="each contender runs this often; medians are shown")
    parser.add_argument("--rate", type=positive, default=800, help="Mbit/s of the link each way (default %(default)s)")
    parser.add_argument("--small-files", type=positive, default=2000, help="files of the small-files row")
    parser.add_argument("--small-size", type=size, default="10KB", help="bytes of each of them")
    parser.add_argument("--memory-small", type=size, default="200MB", help="smaller model of the memory rows")
    parser.add_argument("--memory-large", type=size, default="20GB", help="larger model of the memory rows")
    parser.add_argument("--rows", type=choice(ROWS), default=",".join(ROWS), help="default %(default)s")
    parser.add_argument("--only", type=choice(CONTENDERS), default=",".join(CONTENDERS), help="default %(default)s")
    parser.add_argument("--json", type=Path, default=CACHE / "result.json", help="where the JSON goes")
    flags = parser.parse_args(arguments)
    return Settings(
        size=flags.size,
        turns=flags.turns,
        rate=flags.rate,
        small_files=flags.small_files,
        small_size=flags.small_size,
        memory_sizes=(flags.memory_small, flags.memory_large),
        rows=flags.rows,
        contenders=flags.only,
        json=flags.json,
    )


def size(text: str) -> int:
    """Bytes of a text such as 4GB. Raises ArgumentTypeError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]i?B|)", text)
    if not match or not (count := int(float(match[1]) * UNITS[match[2]])):
        raise argparse.ArgumentTypeError(f"a size is such as 4GB or 200MiB, not {text!r}")
    return count


def positive(text: str) -> int:
    """A whole number from 1. Raises ArgumentTypeError."""
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"a whole number from 1, not {text!r}")
    return int(text)


def choice(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """A parser of comma-separated names out of `known`, kept in the order of `known`."""

    def parse(text: str) -> tuple[str, ...]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {','.join(known)}")
        return tuple(name for name in known if name in names)

    return parse

"""Models made for the benchmark: bytes on disk, and the description that the Hub serves and results are proved against."""

import hashlib
import json
import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from settings import CACHE

SHARDS = 4
BLOCK = 4 * 2**20
# The real Hub keeps files from about this size on in LFS.
LFS_SIZE = 2**20


@dataclass(frozen=True)
class ModelFile:
    """`source` is where the bytes are; `oid` the git blob id (of the pointer for LFS)."""

    path: str
    source: str
    size: int
    oid: str
    sha256: str
    lfs: bool


@dataclass(frozen=True)
class Model:
    """A model at one commit, its files sorted by path; their bytes are in `folder`."""

    id: str
    commit: str
    folder: Path
    files: tuple[ModelFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def describe(self, place: Path) -> None:
        """Writes the JSON that the Hub server reads."""
        place.write_text(json.dumps([asdict(self)], default=str))


def make_model(folder: Path, size: int) -> Model:
    """Four shards of random bytes, no two blocks equal, and the small files every repository has."""
    base = os.urandom(BLOCK)
    contents = {_shard(number): _blocks(base, number, size // SHARDS) for number in range(1, SHARDS + 1)}
    return _write(folder, "bench/llama", {**_companions(), **contents})


def make_small_files(folder: Path, count: int, size: int) -> Model:
    """`count` files of `size` random bytes each, in folders of 100."""
    paths = (f"part-{number // 100:03}/file-{number:05}.json" for number in range(count))
    return _write(folder, "bench/small", {path: [os.urandom(size)] for path in paths})


def make_sparse_model(folder: Path, size: int) -> Model:
    """Shards of a random first block and zeros behind it: holes on disk, so that a model of any size needs no room."""
    digests = _Digests()
    files = []
    for number in range(1, SHARDS + 1):
        place = folder / _shard(number)
        place.parent.mkdir(parents=True, exist_ok=True)
        head = random.Random(number).randbytes(min(BLOCK, size // SHARDS))
        with place.open("wb") as file:
            file.write(head)
            file.truncate(size // SHARDS)
        sha256 = digests.get(number, head, size // SHARDS)
        files.append(ModelFile(_shard(number), str(place), size // SHARDS, _blob_of_pointer(sha256), sha256, True))
    return Model("bench/sparse", _commit(files), folder, tuple(files))


def _shard(number: int) -> str:
    return f"model-{number:05}-of-{SHARDS:05}.safetensors"


def _companions() -> dict[str, Iterable[bytes]]:
    return {
        ".gitattributes": [b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"],
        "README.md": [b"# A model made for measuring\n" * 100],
        "config.json": [b'{"architectures": ["LlamaForCausalLM"]}\n'],
        "tokenizer.json": [b'{"version": "1.0"}\n' * 500],
    }


def _blocks(base: bytes, shard: int, size: int) -> Iterator[bytes]:
    for start in range(0, size, BLOCK):
        stamp = b"%16d%16d" % (shard, start)
        yield (stamp + base[len(stamp) :])[: size - start]


def _write(folder: Path, name: str, contents: dict[str, Iterable[bytes]]) -> Model:
    files = []
    for path, blocks in sorted(contents.items()):
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with place.open("wb") as file:
            for block in blocks:
                file.write(block)
                digest.update(block)
            size = file.tell()
        lfs = size >= LFS_SIZE
        sha256 = digest.hexdigest()
        oid = _blob_of_pointer(sha256) if lfs else _blob(place.read_bytes())
        files.append(ModelFile(path, str(place), size, oid, sha256, lfs))
    return Model(name, _commit(files), folder, tuple(files))


def _blob(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


def _blob_of_pointer(sha256: str) -> str:
    return _blob(f"oid sha256:{sha256}\n".encode())


def _commit(files: list[ModelFile]) -> str:
    text = "".join(file.path + file.sha256 for file in files)
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class _Digests:
    """SHA-256 of the sparse shards, which are the same in every run: 20 GB take a while to hash, so they are kept."""

    def __init__(self) -> None:
        self._place = CACHE / "digests.json"
        self._known: dict[str, str] = json.loads(self._place.read_text()) if self._place.exists() else {}

    def get(self, number: int, head: bytes, size: int) -> str:
        """The digest of `head` and zeros up to `size` bytes."""
        key = f"{number}/{size}"
        if key not in self._known:
            digest = hashlib.sha256(head)
            zeros = bytes(BLOCK)
            for start in range(len(head), size, BLOCK):
                digest.update(zeros[: size - start])
            self._known[key] = digest.hexdigest()
            self._place.write_text(json.dumps(self._known))
        return self._known[key]

"""Where the bytes are: the contenders' on disk, the far ends' in memory when there is enough, as they are other machines."""

import os
import shutil
import tempfile
from pathlib import Path

from settings import CACHE, Settings

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (what is used there has a name of its own)
PREFIX = "model-bench-"
SLACK = 2 * 10**9


class NoRoom(Exception):
    """The disk is too small for what was asked."""


class Folders:
    """`disk` holds staging and volumes, `far` the models and the store's objects; both are removed by close()."""

    def __init__(self, settings: Settings) -> None:
        for parent in (CACHE, SHARED_MEMORY):
            _remove_leftovers(parent)
        timed = settings.size if {"hop1", "hop2"} & set(settings.rows) else 0
        # Model and objects of the timed rows; those of the memory rows are holes.
        is_in_memory = SHARED_MEMORY.is_dir() and _available_memory() > 4 * timed + SLACK
        large = settings.memory_sizes[1] if "memory" in settings.rows else 0
        needed = max(timed if is_in_memory else 4 * timed, large) + SLACK
        free = shutil.disk_usage(CACHE).free
        if free < needed:
            raise NoRoom(
                f"{CACHE} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed: choose smaller sizes"
            )
        self.disk = _make(CACHE)
        self.far = _make(SHARED_MEMORY if is_in_memory else CACHE)

    def close(self) -> None:
        """Removes both folders."""
        for folder in (self.disk, self.far):
            shutil.rmtree(folder, ignore_errors=True)


def _make(parent: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))


def _remove_leftovers(parent: Path) -> None:
    """Removes what a benchmark left that was killed with no chance to clean up."""
    for folder in parent.glob(f"{PREFIX}*") if parent.is_dir() else ():
        if not Path("/proc", folder.name.removeprefix(PREFIX).split("-")[0]).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _available_memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))

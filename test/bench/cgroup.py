"""A memory cgroup with a limit: what a container runtime makes of a manifest's limit, the page cache counted."""

import errno
import os
import time
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")


class MemoryGroup:
    """A group of its own for one measured command. Raises OSError where the machine allows none."""

    def __init__(self, limit: int) -> None:
        self._is_v2 = (MOUNT / "cgroup.controllers").exists()
        self.folder = _parent(self._is_v2) / f"model-bench-{os.getpid()}"
        self.folder.mkdir()
        try:
            self._write("memory.max" if self._is_v2 else "memory.limit_in_bytes", limit)
        except OSError:
            self.close()
            raise

    def __enter__(self) -> "MemoryGroup":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def join(self) -> None:
        """Moves the calling process into the group."""
        self._write("cgroup.procs", os.getpid())

    def peak(self) -> int:
        """Most bytes charged to the group at once: its processes, their page cache, their files in memory."""
        return int((self.folder / ("memory.peak" if self._is_v2 else "memory.max_usage_in_bytes")).read_text())

    def close(self) -> None:
        """Removes the group; the last of its processes may need a moment to be gone."""
        for _ in range(50):
            try:
                self.folder.rmdir()
                return
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
            time.sleep(0.1)

    def _write(self, name: str, value: int) -> None:
        (self.folder / name).write_text(str(value))


def obstacle() -> str:
    """Why this machine allows no memory cgroup; empty when it does."""
    try:
        MemoryGroup(2**30).close()
    except OSError as error:
        return str(error)
    return ""


def _parent(is_v2: bool) -> Path:
    """Version 1: our own group. Version 2 lets a group with processes have no limited children, so there it is the root."""
    if is_v2:
        (MOUNT / "cgroup.subtree_control").write_text("+memory")
        return MOUNT
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return MOUNT / "memory" / path.lstrip("/")
    raise OSError("no memory controller")

"""One measured run of one contender."""

import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from cgroup import MemoryGroup
from contenders import Steps
from process import Command, start, stop, wait

# A run that takes this many times what the link needs, and two minutes, hangs.
PATIENCE = 12


@dataclass(frozen=True)
class Run:
    """What one run took. Bytes and seconds; `group` is the cgroup's peak with the page cache counted, where there is one."""

    row: str
    contender: str
    bytes: int
    seconds: float
    cpu: float
    server_cpu: float
    staging: int
    memory: int
    group: int | None
    limit: int | None
    error: str

    @property
    def succeeded(self) -> bool:
        """Whether it ended well and its bytes were proved."""
        return not self.error


@dataclass(frozen=True)
class Cost:
    """What the commands of a run took, before their result is proved."""

    seconds: float
    cpu: float
    memory: int
    staging: int
    group: int | None
    error: str


def measure(steps: Steps, scratch: Path, link_seconds: float, limit: int | None = None) -> Cost:
    """Runs the steps and measures them, inside a memory cgroup of `limit` bytes when given. Leaves no process behind."""
    # What earlier runs still have to write is not this one's business.
    os.sync()
    staging = 0
    cpu = 0.0
    memory = 0
    error = ""

    def look() -> None:
        nonlocal staging
        staging = max(staging, disk_usage(scratch))

    with MemoryGroup(limit) if limit else nullcontext() as group:
        began = time.monotonic()
        deadline = began + 120 + PATIENCE * link_seconds
        for commands in steps:
            children = []
            try:
                for command in commands:
                    children.append(start(command, group.join if group else None))
                accounts = wait(children, deadline, look)
            except TimeoutError:
                error = "hung, stopped"
                break
            finally:
                for child in children:
                    stop(child)
            cpu += sum(account.cpu for account in accounts)
            memory = max(memory, sum(account.rss for account in accounts))
            if error := _failure(commands, [account.code for account in accounts]):
                break
        seconds = time.monotonic() - began
        return Cost(seconds, cpu, memory, staging, group.peak() if group else None, error)


def _failure(commands: Sequence[Command], codes: Sequence[int]) -> str:
    for command, code in zip(commands, codes, strict=True):
        if code:
            last = command.log.read_text(errors="replace").strip().splitlines()[-2:] or ["no output"]
            return f"exit {code}: {' / '.join(line[-200:] for line in last)}"
    return ""


def disk_usage(folder: Path) -> int:
    """Bytes that the files under `folder` take on disk; files may come and go meanwhile."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        total += disk_usage(Path(entry.path))
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
                except FileNotFoundError:
                    continue
    except FileNotFoundError:
        return total
    return total

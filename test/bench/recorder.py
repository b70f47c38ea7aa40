"""Runs a contender at one end of the link, proves what it left behind, and keeps the account."""

import json
import shutil
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

from check import check_folder
from contenders import Desk, Steps
from folders import Folders
from link import Link
from run import Run, measure
from servers import Servers
from settings import Settings
from tools import Tools


class Recorder:
    """Keeps the measured runs in `runs`."""

    def __init__(self, settings: Settings, tools: Tools, link: Link, folders: Folders) -> None:
        self._settings = settings
        self._tools = tools
        self._link = link
        self._folders = folders
        self._numbers = count(1)
        self.runs: list[Run] = []

    def upload(self, row: str, contender: str, servers: Servers, limit: int | None = None) -> Run:
        """Measures hop 1 and proves the store's objects; `limit` in bytes of a memory cgroup, as a manifest gives it."""
        return self._record(row, contender, servers, lambda desk: desk.upload(contender), limit)

    def download(self, row: str, contender: str, servers: Servers, limit: int | None = None) -> Run:
        """Measures hop 2 and proves the volume's files."""
        return self._record(row, contender, servers, lambda desk: desk.download(contender), limit)

    def seed(self, servers: Servers, contender: str) -> None:
        """Fills the store from the servers' end of the link, not recorded. Raises RuntimeError."""
        desk = self._desk(servers, self._link.server)
        cost = measure(desk.upload(contender), desk.scratch, self._settings.link_seconds(servers.model.size))
        if error := cost.error or "; ".join(servers.check(str(self._tools.python))[:3]):
            raise RuntimeError(f"the store could not be filled: {error}")
        shutil.rmtree(desk.scratch.parent)

    def _record(
        self, row: str, contender: str, servers: Servers, steps: Callable[[Desk], Steps], limit: int | None
    ) -> Run:
        print(f"{row}: {contender} ...", file=sys.stderr, flush=True)
        desk = self._desk(servers, self._link.client)
        size = servers.model.size
        before = servers.cpu()
        cost = measure(steps(desk), desk.scratch, self._settings.link_seconds(size), limit)
        run = Run(
            row=row,
            contender=contender,
            bytes=size,
            seconds=cost.seconds,
            cpu=cost.cpu,
            server_cpu=servers.cpu() - before,
            staging=cost.staging,
            memory=cost.memory,
            group=cost.group,
            limit=limit,
            error=cost.error or self._mistake(contender, desk, is_upload="hop1" in row),
        )
        if run.error:
            print(f"{row}: {contender} FAILED: {run.error}", file=sys.stderr, flush=True)
        self.runs.append(run)
        # Thousands of small files stay until the end: an ext4 without a journal goes round each inode that was freed in
        # the last minutes, one by one, whenever it makes a file, so that who comes later would pay for who went before.
        if not row.startswith("small"):
            shutil.rmtree(desk.scratch.parent)
        return run

    def _desk(self, servers: Servers, end: list[str]) -> Desk:
        place = self._folders.disk / str(next(self._numbers))
        scratch, volume = place / "scratch", place / "volume"
        scratch.mkdir(parents=True)
        volume.mkdir()
        return Desk(self._tools, end, servers, scratch, volume)

    def _mistake(self, contender: str, desk: Desk, is_upload: bool) -> str:
        """What is wrong with the result, one sentence; the bytes of every file are read back."""
        servers = desk.servers
        folder = desk.volume / servers.model.id
        mistakes = servers.check(str(self._tools.python)) if is_upload else check_folder(servers.model, folder)
        if contender == "ours" and (state := _termination(desk.scratch)) != "done":
            mistakes.append(f"the termination message says {state}")
        return "; ".join(mistakes[:3])


def _termination(scratch: Path) -> str:
    log = scratch / "termination-log"
    return str(json.loads(log.read_text())["state"]) if log.exists() else "nothing"

"""Which runs there are, in which order, on which data."""

import re
import shutil

from cgroup import obstacle
from folders import Folders
from link import Link
from model import Model, make_model, make_small_files, make_sparse_model
from recorder import Recorder
from servers import Servers
from settings import REPOSITORY, UNITS, Settings
from tools import Tools

MANIFESTS = {"hop1": "model-upload-spaces.yaml", "hop2": "model-download-nfs.yaml"}
# Many small files: the raw upload stands for s5cmd's whole hop 1 (`hf` alone takes far longer), and curl has no part in it.
SMALL_HOP1 = ("put", "s5cmd", "ours")
HOP2 = ("spec", "s5cmd", "ours")
SMALL_HOP2 = ("s5cmd", "ours")


class Plan:
    """Takes the turns; `recorder` keeps their results, `notes` what the machine did not allow."""

    def __init__(self, settings: Settings, tools: Tools, link: Link, folders: Folders) -> None:
        self._settings = settings
        self._tools = tools
        self._link = link
        self._folders = folders
        self._servers: Servers | None = None
        self.recorder = Recorder(settings, tools, link, folders)
        self.notes = [f"the link is not shaped ({link.note}): no ratio to it holds"] if link.note else []

    def run(self) -> None:
        """All rows that were asked for."""
        settings = self._settings
        try:
            if "hop1" in settings.rows or "hop2" in settings.rows:
                model = make_model(self._folders.far / "model", settings.size)
                for _ in range(settings.turns):
                    self._take_turn(model)
                shutil.rmtree(model.folder)
            if "small" in settings.rows:
                model = make_small_files(self._folders.far / "small", settings.small_files, settings.small_size)
                for _ in range(settings.turns):
                    self._take_small_turn(model)
            if "memory" in settings.rows and "ours" in settings.contenders:
                self._measure_memory()
        finally:
            self._drop_servers()

    def _take_turn(self, model: Model) -> None:
        rows, contenders = self._settings.rows, self._settings.contenders
        seeded = False
        if "hop1" in rows:
            for contender in contenders:
                seeded = self.recorder.upload("hop1", contender, self._fresh(model)).succeeded
        if "hop2" in rows:
            servers = self._servers if seeded and self._servers else self._seed(model)
            for contender in contenders:
                if contender in HOP2:
                    self.recorder.download("hop2", contender, servers)

    def _take_small_turn(self, model: Model) -> None:
        contenders = self._settings.contenders
        seeded = False
        for contender in SMALL_HOP1:
            if contender in contenders or (contender == "put" and "s5cmd" in contenders):
                seeded = self.recorder.upload("small hop1", contender, self._fresh(model)).succeeded
        servers = self._servers if seeded and self._servers else self._seed(model)
        for contender in contenders:
            if contender in SMALL_HOP2:
                self.recorder.download("small hop2", contender, servers)

    def _measure_memory(self) -> None:
        """Not shaped: the faster both ends, the harder it is to keep memory flat, and 20 GB come through in less time."""
        self._link.set_rate(None)
        limits: dict[str, int | None] = {hop: _memory_limit(name) for hop, name in MANIFESTS.items()}
        if reason := obstacle():
            self.notes.append(f"no memory cgroup on this machine ({reason}): the manifests' limits did not hold")
            limits = dict.fromkeys(limits)
        for size in self._settings.memory_sizes:
            model = make_sparse_model(self._folders.far / f"sparse-{size}", size)
            servers = self._fresh(model)
            if self.recorder.upload("memory hop1", "ours", servers, limits["hop1"]).succeeded:
                self.recorder.download("memory hop2", "ours", servers, limits["hop2"])

    def _fresh(self, model: Model) -> Servers:
        """The far ends with an empty store."""
        self._drop_servers()
        self._servers = Servers(self._tools, self._link, model, self._folders.far / "servers")
        return self._servers

    def _seed(self, model: Model) -> Servers:
        """The far ends with the model in the store, with the evidence that our hop 2 asks for when it takes part."""
        servers = self._fresh(model)
        self.recorder.seed(servers, "ours" if "ours" in self._settings.contenders else "put")
        return servers

    def _drop_servers(self) -> None:
        if self._servers:
            self._servers.close()
            shutil.rmtree(self._servers.folder)
            self._servers = None


def _memory_limit(name: str) -> int:
    """The container's memory limit in bytes, from the Job's manifest. Raises ValueError when it has none."""
    text = (REPOSITORY / "k8s" / "jobs" / name).read_text()
    found = re.search(r"limits:(?:\n\s+(?!memory)\S+:.*)*\n\s+memory: \"?(\d+)([KMG]i)\"?\s", text)
    if not found:
        raise ValueError(f"{name} has no memory limit")
    return int(found[1]) * UNITS[found[2] + "B"]

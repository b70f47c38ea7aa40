"""The command lines that are compared. A contender is steps, one after the other; the commands of a step run side by side."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from process import Command
from servers import BUCKET, Servers
from tools import MOVER, Tools

# The only key there is; the store does not ask for it.
KEY = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": "us-east-1"}
Steps = list[list[Command]]


@dataclass(frozen=True)
class Desk:
    """Where one run works: at `end` of the link; `scratch` is its home and staging disk, `volume` the mounted one."""

    tools: Tools
    end: list[str]
    servers: Servers
    scratch: Path
    volume: Path

    def upload(self, contender: str) -> Steps:
        """Hop 1, Hub to store, of one of CONTENDERS; `put` is the raw upload of the same bytes from local files alone."""
        staging = self.scratch / "model"
        fetch = [self._hf("download", self.servers.model.id, "--local-dir", str(staging))]
        match contender:
            case "spec":
                return [fetch, [self._aws("s3", "sync", str(staging), self._place())]]
            case "s5cmd":
                return [fetch, [self._s5cmd("cp", "--exclude", ".cache/*", f"{staging}/", self._place())]]
            case "floor":
                return [[self._curl(), self._put()]]
            case "put":
                return [[self._put()]]
        return [[self._mover("upload")]]

    def download(self, contender: str) -> Steps:
        """Hop 2, store to volume, of one of CONTENDERS."""
        target = str(self.volume / self.servers.model.id) + "/"
        match contender:
            case "spec":
                return [[self._aws("s3", "sync", self._place(), target)]]
            case "s5cmd":
                return [[self._s5cmd("cp", f"{self._place()}*", target)]]
        return [[self._mover("download")]]

    def _place(self) -> str:
        return f"s3://{BUCKET}/{self.servers.prefix}"

    def _put(self) -> Command:
        return self._s5cmd("cp", f"{self.servers.model.folder}/", self._place())

    def _hf(self, *arguments: str) -> Command:
        # No question to the package index at start: in this network it could only fail.
        quiet = {"HF_HUB_DISABLE_UPDATE_CHECK": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        return self._command([str(self.tools.hf), *arguments], {"HF_ENDPOINT": self.servers.hub_url, **quiet}, "hf")

    def _aws(self, *arguments: str) -> Command:
        return self._command([str(self.tools.aws), *arguments, "--endpoint-url", self.servers.store_url], KEY, "aws")

    def _s5cmd(self, *arguments: str) -> Command:
        argv = [str(self.tools.s5cmd), "--log", "error", "--endpoint-url", self.servers.store_url, *arguments]
        return self._command(argv, KEY, "s5cmd")

    def _curl(self) -> Command:
        """Every file from the Hub to nowhere, eight at a time."""
        model = self.servers.model
        list_file = self.scratch / "curl.txt"
        urls = (f"{self.servers.hub_url}/{model.id}/resolve/{model.commit}/{quote(file.path)}" for file in model.files)
        list_file.write_text("".join(f'url = "{url}"\noutput = "/dev/null"\n' for url in urls))
        options = ["--fail", "--silent", "--show-error", "--location", "--parallel", "--parallel-max", "8"]
        return self._command([str(self.tools.curl), *options, "--config", str(list_file)], {}, "curl")

    def _mover(self, verb: str) -> Command:
        """Ours, with the environment that the manifests give the pod."""
        environment = {
            **KEY,
            "MODEL": self.servers.model.id,
            "REVISION": "main",
            "BUCKET": BUCKET,
            "ENDPOINT": self.servers.store_url,
            "HF_ENDPOINT": self.servers.hub_url,
            "BUFFER": "256Mi",
            "MODELS_DIR": str(self.volume),
            "JOB_UID": "bench",
            "TERMINATION_LOG": str(self.scratch / "termination-log"),
            # The ConfigMap is mounted read-only.
            "PYTHONDONTWRITEBYTECODE": "1",
            "PATH": f"{self.tools.python.parent}:{os.environ['PATH']}",
        }
        return self._command([str(self.tools.python), str(MOVER / "mover.py"), verb], environment, "mover")

    def _command(self, argv: list[str], environment: dict[str, str], log: str) -> Command:
        base = {"PATH": os.environ["PATH"], "HOME": str(self.scratch), "TMPDIR": str(self.scratch), "LANG": "C.UTF-8"}
        return Command([*self.end, *argv], {**base, **environment}, self.scratch.parent / f"{log}.log")

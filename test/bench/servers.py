"""The far ends while they run: the Hub with its CDN, and the S3 store."""

import json
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

from link import Link
from model import Model
from process import Command, cpu_seconds, start, stop
from tools import Tools

BUCKET = "bench"


class Servers:
    """A Hub that serves one model and an empty store, both at the server end of the link; the bytes live in `folder`."""

    def __init__(self, tools: Tools, link: Link, model: Model, folder: Path) -> None:
        self.model = model
        self.folder = folder
        self.log = folder / "servers.log"
        objects = folder / "objects"
        objects.mkdir(parents=True)
        description = folder / "model.json"
        model.describe(description)
        self._description = description
        self._link = link
        self._stack = ExitStack()
        self._children: list[subprocess.Popen[str]] = []
        try:
            hub = ["hub", "-listen", f"{link.hub}:0", "-cdn", f"{link.cdn}:0", "-models", str(description)]
            self.hub_url = self._start([*link.server, str(tools.servers), *hub])
            store = ["store", "-listen", f"{link.store}:0", "-dir", str(objects), "-bucket", BUCKET]
            self.store_url = self._start([*link.server, str(tools.servers), *store])
        except BaseException:
            self.close()
            raise

    @property
    def prefix(self) -> str:
        """Where the model's objects go in the bucket."""
        return f"models/{self.model.id}/"

    def cpu(self) -> float:
        """CPU seconds of both servers so far."""
        return sum(cpu_seconds(child) for child in self._children)

    def check(self, python: str) -> list[str]:
        """What is missing or wrong in the store; asked from the server end, so that it costs the link nothing."""
        program = [python, str(Path(__file__).with_name("check.py")), f"{self.store_url}/{BUCKET}", self.prefix]
        with self._description.open() as description:
            answer = subprocess.run(
                [*self._link.server, *program], stdin=description, capture_output=True, text=True, check=False
            )
        if answer.returncode == 0:
            return []
        # Killed, it says nothing: that proves nothing either.
        return (answer.stdout or answer.stderr).strip().splitlines() or [f"check.py ended with {answer.returncode}"]

    def close(self) -> None:
        """Stops both servers."""
        self._stack.close()

    def _start(self, argv: list[str]) -> str:
        child = start(Command(argv, {"PATH": os.environ["PATH"]}, self.log), pipe=True)
        self._stack.callback(stop, child)
        line = child.stdout.readline() if child.stdout else ""
        if not line:
            raise RuntimeError(f"a server did not start: {self.log.read_text()[-500:]}")
        self._children.append(child)
        return str(json.loads(line)["url"])

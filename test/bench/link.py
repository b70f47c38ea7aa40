"""The link that is measured over: two network namespaces joined by a wire of a set rate, or loopback where that is not allowed.

No namespace has a name: each lives as long as the process that holds it, so that nothing is left behind however the
benchmark ends.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from process import Command, start, stop

# 198.18.0.0/15 is set aside for benchmarks (RFC 2544); nothing outside the two namespaces can see it.
CLIENT, HUB, CDN, STORE = "198.18.0.1", "198.18.0.2", "198.18.0.3", "198.18.0.4"
# Loopback addresses of the unshaped case. The CDN is another host than the Hub, as clients treat a redirect to the same one apart.
LOOPBACK = ("127.0.0.1", "127.0.0.2", "127.0.0.1")


class Link:
    """`client` and `server` go in front of a command to run it at that end; `shaped` says whether the rate holds."""

    def __init__(self, rate: int, log: Path) -> None:
        self._log = log
        self._stack = ExitStack()
        self.client: list[str] = []
        self.server: list[str] = []
        self.hub, self.cdn, self.store = LOOPBACK
        self.note = self._obstacle()
        self.shaped = not self.note
        if self.shaped:
            try:
                self._lay(rate)
            except subprocess.CalledProcessError as error:
                self.close()
                self.__dict__.update(client=[], server=[], shaped=False)
                self.hub, self.cdn, self.store = LOOPBACK
                self.note = f"`{' '.join(error.cmd[-6:])}` failed: {error.stderr.strip()}"

    def close(self) -> None:
        """Removes both namespaces."""
        self._stack.close()

    def set_rate(self, rate: int | None) -> None:
        """Shapes both ends to `rate` Mbit/s, or leaves them as fast as the machine is."""
        for end in (self.client, self.server) if self.shaped else ():
            if rate is None:
                self._run([*end, "tc", "qdisc", "del", "dev", "wire", "root"])
            else:
                shape = ["tbf", "rate", f"{rate}mbit", "burst", "256kb", "latency", "5ms"]
                self._run([*end, "tc", "qdisc", "replace", "dev", "wire", "root", *shape])

    def _obstacle(self) -> str:
        if missing := [tool for tool in ("ip", "tc", "nsenter", "unshare") if not shutil.which(tool)]:
            return f"{', '.join(missing)} not found (Debian: apt-get install iproute2 util-linux)"
        return "" if os.geteuid() == 0 else "network namespaces need root (sudo)"

    def _lay(self, rate: int) -> None:
        ends = [self._hold(), self._hold()]
        self.client, self.server = ([shutil.which("nsenter") or "", f"--net=/proc/{pid}/ns/net"] for pid in ends)
        names = [["name", "wire", "netns", str(pid)] for pid in ends]
        self._run(["ip", "link", "add", *names[0], "type", "veth", "peer", *names[1]])
        for end, addresses in ((self.client, (CLIENT,)), (self.server, (HUB, CDN, STORE))):
            for address in addresses:
                self._run([*end, "ip", "address", "add", f"{address}/24", "dev", "wire"])
            for device in ("lo", "wire"):
                self._run([*end, "ip", "link", "set", device, "up"])
        self.hub, self.cdn, self.store = HUB, CDN, STORE
        self.set_rate(rate)

    def _hold(self) -> int:
        """A process that holds a new network namespace; gives its pid."""
        argv = ["unshare", "--net", "sh", "-c", "echo held; exec sleep infinity"]
        holder = start(Command(argv, dict(os.environ), self._log), pipe=True)
        self._stack.callback(stop, holder)
        if not holder.stdout or holder.stdout.readline() != "held\n":
            raise subprocess.CalledProcessError(1, argv, stderr=self._log.read_text())
        return holder.pid

    def _run(self, argv: Sequence[str]) -> None:
        subprocess.run(argv, check=True, capture_output=True, text=True)

"""Where Web.connect goes for each kind of address: http.client would look for a port in an IPv6 address that has none."""

import sys
import threading
from http.client import HTTPConnection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "k8s/mover"))

from web import Web

asked: list[tuple[str, int]] = []


def refuse(self: HTTPConnection) -> None:
    asked.append((self.host, self.port))
    raise ConnectionRefusedError


HTTPConnection.connect = refuse  # type: ignore[method-assign]

for url, there in [
    ("http://[fd00::a]", ("fd00::a", 80)),
    ("https://[2001:db8::1:8080]", ("2001:db8::1:8080", 443)),
    ("http://[::1]:9000", ("::1", 9000)),
    ("https://spaces.example", ("spaces.example", 443)),
    ("http://127.0.0.1:1", ("127.0.0.1", 1)),
]:
    if Web(threading.Event()).connect(url, 1.0) is not None:
        sys.exit(f"{url}: a connection that was refused")
    if asked != [there]:
        sys.exit(f"{url}: went to {asked}")
    asked.clear()
print("done")

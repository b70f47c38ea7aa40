"""Starts movers by fork from a process that has imported everything: kills between every two calls take hundreds of them.

One order a line on stdin: {"id", "verb", "env", "patch", "log"}. For each, {"id", "pid"} and later {"id", "status"} on
stdout, where status is the exit code, or minus the signal.
"""

import json
import os
import random
import selectors
import signal
import sys
from pathlib import Path
from typing import Any

MOVER = Path(__file__).parents[2] / "k8s/mover"
sys.path.insert(0, str(MOVER))

import mover
from botocore.session import Session

# Loaded before the fork as well: a module that is imported again is the same one.
import download  # noqa: F401 isort:skip
import spaces  # isort:skip
import upload  # noqa: F401 isort:skip


def main() -> None:
    """Takes orders until stdin ends."""
    # Parsing S3's description is most of what a client costs; the loader keeps it.
    session = Session()
    session.create_client("s3", region_name="atl1", aws_access_key_id="-", aws_secret_access_key="-")
    spaces.Session = lambda: session
    mover.install = lambda progress: None
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
    waiting = b""
    while True:
        for key, _ in selector.select():
            if key.data is not None:
                order, pid = key.data
                selector.unregister(key.fd)
                os.close(key.fd)
                say(id=order["id"], status=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                continue
            chunk = os.read(key.fd, 65536)
            if not chunk:
                return
            *lines, waiting = (waiting + chunk).split(b"\n")
            for order in map(json.loads, lines):
                pid = os.fork()
                if pid == 0:
                    obey(order)
                say(id=order["id"], pid=pid)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (order, pid))


def obey(order: dict[str, Any]) -> None:
    """Becomes the mover; never returns."""
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(order["env"])
    random.seed()
    exec(order["patch"], {})  # noqa: S102 (it is the test's own)
    code = mover.main(order["verb"])
    sys.stdout.flush()
    os._exit(code)


def say(**words: object) -> None:
    """One line on stdout."""
    print(json.dumps(words), flush=True)


signal.signal(signal.SIGINT, signal.SIG_IGN)
main()

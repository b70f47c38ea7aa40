"""Starts movers by fork from a process that has imported everything: kills between every two calls take hundreds of them.

One order a line on stdin: {"id", "verb", "env", "patch", "log"}. For each, {"id", "pid"} and later {"id", "status"} on
stdout, where status is the exit code, or minus the signal.
"""

import importlib
import json
import os
import random
import selectors
import signal
import sys
from typing import Any

from botocore.session import Session

import bucket
import mover


def main() -> None:
    """Takes orders until stdin ends."""
    # Parsing S3's description is most of what a client costs; the loader keeps it.
    session = Session()
    session.set_credentials("-", "-")
    session.create_client("s3", region_name="atl1")
    bucket.Session = lambda: session
    mover.install = lambda *_: None
    for verb in ("upload", "download"):
        importlib.import_module(verb)
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

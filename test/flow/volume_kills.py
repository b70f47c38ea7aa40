"""Kills its own process at a call that changes the volume: before the call, or when half of a write is done."""

import builtins
import os
import re
import signal
import threading
from collections.abc import Callable
from typing import Any

_calls = {name: getattr(os, name) for name in ("open", "replace", "unlink", "mkdir", "rmdir", "ftruncate", "pwrite")}
_open = builtins.open
_PARTIAL = re.compile(r"\.[0-9a-f]{8}\.partial$")


class _Trigger:
    """Strikes at the n-th point (from 1), or at the first one of this name."""

    def __init__(self, at: int | str) -> None:
        self._at = at
        self._passed = 0
        self._lock = threading.Lock()

    def strikes(self, point: str) -> bool:
        with self._lock:
            self._passed += 1
            return self._at in (self._passed, point)

    def pass_by(self, point: str) -> None:
        """Dies here, when this is the point."""
        if self.strikes(point):
            die(point)


class _File:
    """A file that may die between the two halves of a write."""

    def __init__(self, file: Any, trigger: _Trigger) -> None:
        self._file = file
        self._trigger = trigger

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, body: bytes) -> int:
        self._trigger.pass_by("write")
        if self._trigger.strikes("half of a write"):
            self._file.write(body[: len(body) // 2])
            self._file.flush()
            die("half of a write")
        return self._file.write(body)


def die(point: str) -> None:
    """The kill -9 itself."""
    os.write(1, f"killed at: {point}\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)


def arm(at: int | str) -> None:
    """From here on, the process dies at this point of what happens below MODELS_DIR."""
    trigger = _Trigger(at)
    root = os.environ["MODELS_DIR"]

    def on_volume(path: object) -> bool:
        return str(path).startswith(root)

    def counting(name: str) -> Callable[..., Any]:
        def call(target: Any, *rest: Any, **named: Any) -> Any:
            if isinstance(target, int) or on_volume(target):
                trigger.pass_by(f"{name} {target}")
            return _calls[name](target, *rest, **named)

        return call

    def open_descriptor(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        if flags & os.O_CREAT and on_volume(path):
            trigger.pass_by(f"open {path}")
        return _calls["open"](path, flags, *rest, **named)

    def pwrite(descriptor: int, body: Any, offset: int) -> int:
        # Named by its file: several are written side by side, in an order that is up to the machine.
        partial = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        point = f"pwrite of {_PARTIAL.sub('', partial)} at {offset}"
        trigger.pass_by(point)
        if trigger.strikes(f"half of a {point}"):
            _calls["pwrite"](descriptor, body[: len(body) // 2], offset)
            die(f"half of a {point}")
        return _calls["pwrite"](descriptor, body, offset)

    def open_file(file: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
        opened = _open(file, mode, *rest, **named)
        return _File(opened, trigger) if mode in ("wb", "ab") and (isinstance(file, int) or on_volume(file)) else opened

    for name in ("replace", "unlink", "mkdir", "rmdir", "ftruncate"):
        setattr(os, name, counting(name))
    os.open, os.pwrite = open_descriptor, pwrite
    builtins.open = open_file

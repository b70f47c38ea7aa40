"""Child processes: started so that they cannot outlive the benchmark, and measured by the kernel's own accounts."""

import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG = 1
TICK_SECONDS = 0.25
GRACE_SECONDS = 5.0
_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class Command:
    """One command line with its whole environment; stdout and stderr go to `log`."""

    argv: Sequence[str]
    env: dict[str, str]
    log: Path


@dataclass(frozen=True)
class Account:
    """What one child cost: exit code (-9 for a kill), CPU seconds of it and its descendants, peak resident bytes."""

    code: int
    cpu: float
    rss: int


def start(command: Command, join: Callable[[], None] | None = None, pipe: bool = False) -> subprocess.Popen[str]:
    """Starts a child in a session of its own; `join` runs in it before the command does. With `pipe`, stdout is read by us."""

    def prepare() -> None:
        # Should the benchmark itself be killed, the kernel ends its children.
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if join:
            join()

    with command.log.open("ab") as log:
        return subprocess.Popen(
            command.argv,
            env=command.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipe else log,
            stderr=log,
            text=True,
            start_new_session=True,
            preexec_fn=prepare,
        )


def wait(children: Sequence[subprocess.Popen[str]], deadline: float, tick: Callable[[], None]) -> list[Account]:
    """Waits for all children, calling `tick` four times a second. Raises TimeoutError at `deadline` (time.monotonic)."""
    poller = select.poll()
    running = {os.pidfd_open(child.pid): child for child in children}
    accounts: dict[int, Account] = {}
    for descriptor in running:
        poller.register(descriptor, select.POLLIN)
    try:
        while running:
            for descriptor, _ in poller.poll(TICK_SECONDS * 1000):
                poller.unregister(descriptor)
                os.close(descriptor)
                child = running.pop(descriptor)
                accounts[child.pid] = _reap(child)
            tick()
            if running and time.monotonic() > deadline:
                raise TimeoutError
    finally:
        for descriptor in running:
            os.close(descriptor)
    return [accounts[child.pid] for child in children]


def _reap(child: subprocess.Popen[str]) -> Account:
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return Account(child.returncode, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def stop(child: subprocess.Popen[str]) -> None:
    """Ends a child that still runs, and the rest of its session, gently first."""
    for number in (signal.SIGTERM, signal.SIGKILL) if child.returncode is None else ():
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            break
        try:
            child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    if child.stdout:
        child.stdout.close()


def cpu_seconds(child: subprocess.Popen[str]) -> float:
    """User and system seconds of a running child so far."""
    fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

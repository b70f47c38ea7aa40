"""The program inside the Jobs: `python mover.py <verb>` with one of VERBS, settings from the environment.

It needs only the standard library to start: packages of a verb are installed by plain pip from requirements.txt beside
this file, from here, so that python is the container's first process and gets SIGTERM, and a failed installation has
its cause in the termination message like every other failure.

Exit codes: 0 done, 1 transient (the Job may retry), 64 permanent, 143 after SIGTERM. The termination message is one
JSON document below 4,096 bytes: {"state":"done",...} or {"state":"failed","cause","detail","next"}.
"""

import importlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from failure import EXIT_STOPPED, Failure, Stopped
from progress import Progress
from settings import SECRETS, Settings, read_settings
from trust import trust

VERBS = {
    "upload": ("upload", "Upload"),
    "download": ("download", "Download"),
    "verify": ("verify", "Verify"),
    "verify-spaces": ("verify_spaces", "VerifySpaces"),
    "plan": ("plan", "Plan"),
    "clean-nfs": ("clean", "Clean"),
    "clean-spaces": ("clean_spaces", "CleanSpaces"),
}
NEEDS_NOTHING = {"verify", "clean-nfs"}
MESSAGE_BYTES = 4096
# How soon a signal is seen at the latest, and how long the work may take to end behind it: a pod has 30 s.
SIGNAL_SECONDS = 0.2
STOP_SECONDS = 1.0


def main(verb: str) -> int:
    """Runs a verb; gives the exit code."""
    stop = threading.Event()
    progress = Progress()
    # A name on the volume may be any bytes.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]

    ended = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        # Raised in the main thread, which only waits; every step of the work is made so that a kill is safe behind it.
        # Once the work has ended there is nothing to stop: how it ended still has to be told.
        if not stop.is_set() and not ended.is_set():
            stop.set()
            raise Stopped()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    try:
        settings = read_settings()
        trust()
        progress.start()
        result = Work(verb, settings, progress, stop).result()
        ended.set()
        progress.stop()
        moved = {"moved": progress.moved, "files_moved": progress.files_moved}
        report({"state": "done", **result, **moved, "seconds": round(progress.seconds, 1)})
        return 0
    except Failure as failure:
        ended.set()
        return fail(Stopped() if stop.is_set() else failure, progress)
    except Exception as error:
        ended.set()
        if stop.is_set():
            return fail(Stopped(), progress)
        print(masked(traceback.format_exc()), flush=True)
        return fail(Failure("internal", masked(f"{type(error).__name__}: {error}")), progress)


class Work(threading.Thread):
    """The verb, in a thread of its own.

    CPython runs signal handlers in the main thread, which must not block without a limit: a signal that comes just
    before it does is seen when the lock is free, which may be never. Nor may the handler's exception come up in the
    midst of a library, which takes it for a failure of the network.
    """

    def __init__(self, verb: str, settings: Settings, progress: Progress, stop: threading.Event) -> None:
        super().__init__(name=verb, daemon=True)
        self._verb = verb
        self._settings = settings
        self._progress = progress
        self._stop_asked = stop
        self._end = threading.Event()
        self._result: dict[str, object] = {}
        self._error: BaseException | None = None

    def result(self) -> dict[str, object]:
        """Runs the verb and gives its result, or raises its error; or Stopped, a moment after the work was told to stop."""
        self.start()
        try:
            while not self._end.wait(SIGNAL_SECONDS):
                continue
        except Stopped:
            self._end.wait(STOP_SECONDS)
            raise
        if self._error is not None:
            raise self._error
        return self._result

    def run(self) -> None:
        """Called by start()."""
        try:
            if self._verb not in NEEDS_NOTHING:
                install(self._progress, self._stop_asked)
            module, name = VERBS[self._verb]
            work = getattr(importlib.import_module(module), name)
            self._result = work(self._settings, self._progress, self._stop_asked).run()
        except BaseException as error:
            self._error = error
        finally:
            self._end.set()


def masked(text: str) -> str:
    """The words of an error that nobody foresaw, without the secrets that may be in them."""
    for secret in (os.environ.get(name, "").strip() for name in SECRETS):
        if secret:
            text = text.replace(secret, "***").replace(repr(secret)[1:-1], "***")
    return text


def install(progress: Progress, stop: threading.Event) -> None:
    """Installs the pinned packages; no network is needed where they are there already. Raises Failure("install"), Stopped."""
    progress.enter("installing")
    requirements = Path(__file__).with_name("requirements.txt")
    if is_installed(requirements):
        return
    environment = {
        **os.environ,
        "PIP_ROOT_USER_ACTION": "ignore",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_PROGRESS_BAR": "off",
    }
    # The installer has no use for them, and a package's build has no business with them.
    for secret in SECRETS:
        environment.pop(secret, None)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--requirement", str(requirements)]
    pip = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while pip.returncode is None:
        try:
            output, _ = pip.communicate(timeout=SIGNAL_SECONDS)
        except subprocess.TimeoutExpired:
            if stop.is_set():
                pip.kill()
                raise Stopped() from None
    if pip.returncode != 0:
        print(output, flush=True)
        last = next((line for line in reversed(output.splitlines()) if line.startswith("ERROR")), "no reason given")
        raise Failure("install", f"pip could not install the mover's packages: {last.removeprefix('ERROR: ')}")
    importlib.invalidate_caches()


def is_installed(requirements: Path) -> bool:
    """Whether every pin is there as it is pinned: an image that has them all spares the pod pip's second of one CPU."""
    for line in requirements.read_text().splitlines():
        name, _, version = line.partition("#")[0].strip().partition("==")
        try:
            if name and importlib.metadata.version(name) != version:
                return False
        except importlib.metadata.PackageNotFoundError:
            return False
    return True


def fail(failure: Failure, progress: Progress) -> int:
    """Says what failed and what to do, in the log and in the termination message; gives the exit code."""
    progress.stop()
    print(f"failed: {failure.cause}: {failure.detail}", flush=True)
    print(f"next: {failure.next}", flush=True)
    message = {"state": "failed", "cause": failure.cause, "detail": failure.detail, "next": failure.next}
    report({**message, **getattr(failure, "fields", {})})
    return failure.exit_code


def report(message: dict[str, Any]) -> None:
    """Writes the termination message; lists of paths, then the longest words, are cut until it fits."""
    body = _dump(message)
    while len(body) >= MESSAGE_BYTES:
        lists = [value for value in message.values() if isinstance(value, list) and value]
        if lists:
            max(lists, key=len).pop()
        else:
            longest = max(
                (key for key, value in message.items() if isinstance(value, str)), key=lambda key: len(message[key])
            )
            message[longest] = message[longest][: len(message[longest]) // 2]
        body = _dump(message)
    path = os.environ.get("TERMINATION_LOG", "/dev/termination-log")
    try:
        with open(path, "wb") as file:
            file.write(body)
    except OSError as error:
        # The same words are in the log; the exit code must stay the work's own.
        print(f"could not write {path}: {error.strerror}", flush=True)


def _dump(message: dict[str, Any]) -> bytes:
    """JSON, in which the bytes of a name that is no text are escapes."""
    return json.dumps(message, ensure_ascii=False).encode(errors="backslashreplace")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in VERBS:
        sys.exit(f"usage: mover.py {'|'.join(VERBS)}")
    code = EXIT_STOPPED
    try:
        code = main(sys.argv[1])
        sys.stdout.flush()
    finally:
        # Threads may still wait for a silent server; all that must last has been written. A stop that comes in the
        # very moment in which the work fails ends here too.
        os._exit(code)

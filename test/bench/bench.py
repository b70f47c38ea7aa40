#!/usr/bin/env python3.11
"""Measures this pipeline beside the spec's own, s5cmd and the raw floor, over a link of a set rate: see README.md here.

Example: test/bench/bench.py --size 4GB --turns 3
"""

import signal
import subprocess
import sys
from contextlib import ExitStack

from folders import Folders, NoRoom
from link import Link
from plan import Plan
from report import Report
from settings import read_settings
from tools import get_tools


def main(arguments: list[str]) -> int:
    """Runs the rows that were asked for; 0 when every run ended well and every claim that was asked for holds, else 1."""
    settings = read_settings(arguments)
    try:
        tools = get_tools(settings.contenders)
        with ExitStack() as stack:
            folders = Folders(settings)
            stack.callback(folders.close)
            link = Link(settings.rate, folders.disk / "link.log")
            stack.callback(link.close)
            plan = Plan(settings, tools, link, folders)
            for note in plan.notes:
                print(f"bench: {note}", file=sys.stderr)
            plan.run()
            runs = plan.recorder.runs
    except (NoRoom, FileNotFoundError, RuntimeError, subprocess.CalledProcessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    report = Report(settings, runs, link.shaped, plan.notes)
    print(report.text())
    settings.json.write_text(report.json())
    return 1 if report.failures else 0


def interrupt(*_: object) -> None:
    """Ctrl-C and SIGTERM: everything that was started is stopped and removed on the way out."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("bench: interrupted, everything that was started is stopped", file=sys.stderr)
        sys.exit(130)

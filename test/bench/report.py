"""The table and the JSON of one benchmark."""

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from claims import Claim, judge
from run import Run
from settings import Settings
from summary import Summary, summarize

MIB = 2**20
NAMES = {
    "spec": {"hop1": "hf download, then aws s3 sync", "hop2": "aws s3 sync"},
    "s5cmd": {"hop1": "hf download, then s5cmd", "hop2": "s5cmd"},
    "floor": {"hop1": "floor: curl beside s5cmd"},
    "put": {"hop1": "s5cmd, upload alone"},
    "ours": {"hop1": "ours", "hop2": "ours"},
}
HEADER = [
    "row",
    "data",
    "contender",
    "seconds",
    "x link",
    "staging MB",
    "peak MiB",
    "cgroup MiB",
    "CPU s",
    "servers CPU s",
]


class Report:
    """What was measured, on what, and which claims hold."""

    def __init__(self, settings: Settings, runs: list[Run], shaped: bool, notes: list[str]) -> None:
        self._settings = settings
        self._runs = runs
        self._shaped = shaped
        self._notes = notes
        self._summaries = summarize(settings, runs, shaped)
        self._claims = judge(settings, self._summaries)

    @property
    def failures(self) -> list[str]:
        """Runs that failed, and claims that were asked for and do not hold or cannot be judged; one line each."""
        runs = [f"{run.row} {run.contender}: {run.error}" for run in self._runs if run.error]
        return runs + [f"{claim.text}: {_shortfall(claim)}" for claim in self._claims if claim.failed]

    def text(self) -> str:
        """The table, the claims and the notes, as Markdown that also reads well on a terminal."""
        machine = _machine()
        rate = f"{self._settings.rate} Mbit/s each way" if self._shaped else "loopback, not shaped"
        lines = [
            "",
            f"{machine['cpus']} CPUs {machine['cpu']}, {machine['memory_gb']} GB, Linux {machine['kernel']}; link {rate};"
            f" turns {self._settings.turns}, medians",
            "",
            *_align([HEADER, *(_cells(summary) for summary in self._summaries)]),
            "",
            *_align([["claim", "measured", "bound", "holds"], *(_verdict(claim) for claim in self._claims)]),
        ]
        failures = (f"FAILED {failure}" for failure in self.failures)
        return "\n".join([*lines, "", *failures, *(f"note: {note}" for note in self._notes)]).rstrip() + "\n"

    def json(self) -> str:
        """The same for machines, with every single run."""
        settings = {
            name: str(value) if isinstance(value, Path) else value for name, value in asdict(self._settings).items()
        }
        document = {
            "machine": _machine(),
            "shaped": self._shaped,
            "settings": settings,
            "table": [asdict(summary) for summary in self._summaries],
            "claims": [asdict(claim) for claim in self._claims],
            "runs": [asdict(run) for run in self._runs],
            "notes": self._notes,
        }
        return json.dumps(document, indent=2) + "\n"


def _cells(summary: Summary) -> list[str]:
    hop = "hop1" if "hop1" in summary.row else "hop2"
    low, high = summary.spread
    seconds = f"{summary.seconds:.1f}" + (f" ({low:.1f}-{high:.1f})" if f"{low:.1f}" != f"{high:.1f}" else "")
    return [
        summary.row,
        _size(summary.bytes),
        NAMES[summary.contender][hop],
        "FAILED" if summary.error else seconds,
        f"{summary.link_ratio:.2f}" if summary.link_ratio is not None else "-",
        f"{summary.staging / 1e6:.0f}",
        f"{summary.memory / MIB:.0f}",
        f"{summary.group / MIB:.0f}" if summary.group is not None else "-",
        f"{summary.cpu:.1f}",
        f"{summary.server_cpu:.1f}",
    ]


def _verdict(claim: Claim) -> list[str]:
    value = "-" if claim.value is None else f"{claim.value:.3f}"
    outcome = f"{claim.verdict}: {claim.reason}" if claim.reason else claim.verdict
    return [claim.text, value, _bound(claim), outcome]


def _shortfall(claim: Claim) -> str:
    """Of a claim that failed: what is wrong."""
    return f"cannot be judged: {claim.reason}" if claim.value is None else f"{claim.value:.3f}, not {_bound(claim)}"


def _bound(claim: Claim) -> str:
    return f"{'>=' if claim.is_minimum else '<='} {claim.bound:g}"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _align(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        if number == 0:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"


def _machine() -> dict[str, str | int]:
    models = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = next(int(line.split()[1]) * 1024 for line in _lines("/proc/meminfo") if line.startswith("MemTotal:"))
    return {
        "cpus": os.cpu_count() or 0,
        "cpu": models[0] if models else platform.machine(),
        "memory_gb": round(memory / 1e9),
        "kernel": platform.release(),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()

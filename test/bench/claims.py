"""What is promised of ours, as ratios of the medians that were measured."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from settings import Settings
from summary import Summary

MIB = 2**20
# What the promises are made for. With less, it is the start of the programs and one turn's luck that are measured.
SIZE, TURNS = 4 * 10**9, 3
SMALL = (2000, 10 * 10**3)
MEMORY = (200 * 10**6, 20 * 10**9)
# Who runs when whose name is asked for, where that is not the same.
ASKED_AS = {"put": "s5cmd"}

Verdict = Literal["yes", "NO", "cannot be judged", "not asked for"]


@dataclass(frozen=True)
class Claim:
    """One promise: `value` has to stay at or under `bound` (or at or over it). `reason` says why it could not be judged."""

    text: str
    value: float | None
    bound: float
    is_minimum: bool
    verdict: Verdict
    reason: str

    @property
    def failed(self) -> bool:
        """Whether it was asked for and does not hold, or nobody knows whether it does."""
        return self.verdict in ("NO", "cannot be judged")


class LeftOut(Exception):
    """The figure was not asked for."""


class Unmeasured(Exception):
    """The figure was asked for and could not be had."""


def judge(settings: Settings, summaries: list[Summary]) -> list[Claim]:
    """All claims about the rows that were asked for."""
    figures = Figures(settings, summaries)
    promises = {"hop1": _hop1, "hop2": _hop2, "small": _small, "memory": _memory}
    return [claim for row in settings.rows for claim in promises[row](figures)]


class Figures:
    """The summaries, by row and contender."""

    def __init__(self, settings: Settings, summaries: list[Summary]) -> None:
        self.settings = settings
        self._summaries = summaries

    def of(self, row: str, *contenders: str) -> list[Summary]:
        """One a contender; of a row with two sizes the smaller first. Raises LeftOut, Unmeasured."""
        for contender in contenders:
            asked_as = ASKED_AS.get(contender, contender)
            if asked_as not in self.settings.contenders:
                raise LeftOut(f"{asked_as} was left out")
        return [summary for contender in contenders for summary in self._measured(row, contender)]

    def link_ratios(self, row: str, *contenders: str) -> list[float]:
        """Seconds over those that the link needs, one a contender. Raises LeftOut, Unmeasured."""
        ratios = [summary.link_ratio for summary in self.of(row, *contenders)]
        known = [ratio for ratio in ratios if ratio is not None]
        if len(known) < len(ratios):
            raise Unmeasured("the link was not shaped")
        return known

    def pair(self, row: str) -> list[Summary]:
        """Ours with the smaller and with the larger model. Raises LeftOut, Unmeasured."""
        found = self.of(row, "ours")
        if len(found) != 2:
            raise Unmeasured(f"{row} has no second size")
        return found

    def _measured(self, row: str, contender: str) -> list[Summary]:
        found = [summary for summary in self._summaries if (summary.row, summary.contender) == (row, contender)]
        if not found or any(summary.error for summary in found):
            raise Unmeasured(f"{row} of {contender} failed")
        return sorted(found, key=lambda summary: summary.bytes)


def _hop1(figures: Figures) -> Iterator[Claim]:
    def over_floor() -> float:
        ours, floor = figures.link_ratios("hop1", "ours", "floor")
        return ours / floor

    def faster_than_spec() -> float:
        ours, spec = figures.link_ratios("hop1", "ours", "spec")
        return spec / ours

    def cpu() -> float:
        [ours] = figures.of("hop1", "ours")
        return ours.cpu / (ours.bytes / 1e9)

    less = _less_than_large(figures.settings)
    yield _judge("hop1: seconds over the raw floor", over_floor, 1.05, less)
    yield _judge("hop1: times faster than the spec's pipeline", faster_than_spec, 1.75, less, is_minimum=True)
    yield _judge("hop1: CPU seconds a GB", cpu, 2.5, less)


def _hop2(figures: Figures) -> Iterator[Claim]:
    def over_link() -> float:
        [ratio] = figures.link_ratios("hop2", "ours")
        return ratio

    def over_spec() -> float:
        ours, spec = figures.of("hop2", "ours", "spec")
        return ours.cpu / spec.cpu

    less = _less_than_large(figures.settings)
    yield _judge("hop2: seconds over bytes/bandwidth", over_link, 1.10, less)
    yield _judge("hop2: CPU over aws s3 sync", over_spec, 1.0, less)


def _small(figures: Figures) -> Iterator[Claim]:
    """s5cmd cannot read the Hub. The same work is `hf download` and s5cmd, or a download and an upload of s5cmd's own."""

    def over(row: str, contender: str) -> Callable[[], float]:
        def ratio() -> float:
            ours, rival = figures.of(row, "ours", contender)
            return ours.seconds / rival.seconds

        return ratio

    def over_both() -> float:
        ours, put = figures.of("small hop1", "ours", "put")
        [get] = figures.of("small hop2", "s5cmd")
        return ours.seconds / (get.seconds + put.seconds)

    less = _less_than_small(figures.settings)
    yield _judge("small hop1: seconds over hf download, then s5cmd", over("small hop1", "s5cmd"), 2, less)
    yield _judge("small hop1: seconds over s5cmd's download and upload of the same", over_both, 2, less)
    yield _judge("small hop1: seconds over s5cmd's upload alone", over("small hop1", "put"), 2, less)
    yield _judge("small hop2: seconds over s5cmd", over("small hop2", "s5cmd"), 2, less)


def _memory(figures: Figures) -> Iterator[Claim]:
    less = _less_than_memory(figures.settings)
    for row in ("memory hop1", "memory hop2"):

        def growth(row: str = row) -> float:
            small, large = figures.pair(row)
            return large.memory / small.memory

        def peak(row: str = row) -> float:
            return max(summary.memory for summary in figures.pair(row)) / MIB

        def over_limit(row: str = row) -> float:
            _, large = figures.pair(row)
            if large.group is None or large.limit is None:
                raise Unmeasured("there was no memory cgroup")
            return large.group / large.limit

        yield _judge(f"{row}: peak of the larger model over the smaller's", growth, 1.15, less)
        yield _judge(f"{row}: peak in MiB", peak, 400, less)
        # At the limit itself the kernel would be taking back pages that the mover should have given back.
        yield _judge(f"{row}: cgroup peak, page cache counted, over the limit", over_limit, 0.99, less)


def _judge(text: str, figure: Callable[[], float], bound: float, less: str, *, is_minimum: bool = False) -> Claim:
    """`less` is why the data at hand do not suffice; the value is shown all the same."""
    verdict: Verdict
    value, reason = None, less
    try:
        value = figure()
        verdict = "yes" if (value >= bound if is_minimum else value <= bound) else "NO"
    except Unmeasured as error:
        verdict, reason = "cannot be judged", less or str(error)
    except LeftOut as error:
        verdict, reason = "not asked for", str(error)
    return Claim(text, value, bound, is_minimum, "not asked for" if less else verdict, reason)


def _less_than_large(settings: Settings) -> str:
    return _takes({"--size 4GB": settings.size >= SIZE, f"--turns {TURNS}": settings.turns >= TURNS})


def _less_than_small(settings: Settings) -> str:
    return _takes(
        {
            "--small-files 2000": settings.small_files == SMALL[0],
            "--small-size 10KB": settings.small_size == SMALL[1],
            f"--turns {TURNS}": settings.turns >= TURNS,
        }
    )


def _less_than_memory(settings: Settings) -> str:
    small, large = sorted(settings.memory_sizes)
    return _takes({"--memory-small 200MB": small <= MEMORY[0], "--memory-large 20GB": large >= MEMORY[1]})


def _takes(flags: dict[str, bool]) -> str:
    """What has to be asked for in addition; empty when all of it was."""
    missing = [flag for flag, given in flags.items() if not given]
    return " ".join(["takes", *missing]) if missing else ""

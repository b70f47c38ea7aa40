"""What is promised of ours, as ratios of the medians that were measured."""

from collections.abc import Iterator
from dataclasses import dataclass

from summary import Summary

MIB = 2**20
# A summary for each row, contender and number of bytes.
Table = dict[tuple[str, str, int], Summary]


@dataclass(frozen=True)
class Claim:
    """One promise: `value` has to stay at or under `bound` (or at or over it)."""

    text: str
    value: float
    bound: float
    is_minimum: bool = False

    @property
    def holds(self) -> bool:
        """Whether the figures keep the promise."""
        return self.value >= self.bound if self.is_minimum else self.value <= self.bound


def judge(summaries: list[Summary]) -> list[Claim]:
    """The claims that the rows at hand can tell about."""
    table = {(summary.row, summary.contender, summary.bytes): summary for summary in summaries if not summary.error}
    claims: list[Claim] = []
    for (row, contender, size), ours in table.items():
        if contender == "ours":

            def rival(name: str, row: str = row, size: int = size) -> Summary | None:
                return table.get((row, name, size))

            if row == "hop1":
                claims += _hop1(ours, rival("floor"), rival("spec"))
            elif row == "hop2":
                claims += _hop2(ours, rival("spec"))
            elif row == "small hop1":
                claims += _small_hop1(ours, rival("s5cmd"), rival("put"))
            elif row == "small hop2" and (s5cmd := rival("s5cmd")):
                claims.append(Claim("small hop2: seconds over s5cmd", ours.seconds / s5cmd.seconds, 2))
    return claims + list(_memory(table))


def _hop1(ours: Summary, floor: Summary | None, spec: Summary | None) -> Iterator[Claim]:
    if floor and ours.link_ratio is not None:
        yield Claim("hop1: seconds over the raw floor", ours.seconds / floor.seconds, 1.05)
    if spec and ours.link_ratio is not None:
        yield Claim("hop1: times faster than the spec's pipeline", spec.seconds / ours.seconds, 1.75, is_minimum=True)
    yield Claim("hop1: CPU seconds a GB", ours.cpu / (ours.bytes / 1e9), 2.5)


def _small_hop1(ours: Summary, pipeline: Summary | None, put: Summary | None) -> Iterator[Claim]:
    """s5cmd cannot read the Hub: the same work is `hf download` and s5cmd; its upload alone is the harder measure."""
    if pipeline:
        yield Claim("small hop1: seconds over hf download, then s5cmd", ours.seconds / pipeline.seconds, 2)
    if put:
        yield Claim("small hop1: seconds over s5cmd's upload alone", ours.seconds / put.seconds, 2)


def _hop2(ours: Summary, spec: Summary | None) -> Iterator[Claim]:
    if ours.link_ratio is not None:
        yield Claim("hop2: seconds over bytes/bandwidth", ours.link_ratio, 1.10)
    if spec:
        yield Claim("hop2: CPU over aws s3 sync", ours.cpu / spec.cpu, 1.0)


def _memory(table: Table) -> Iterator[Claim]:
    for row in ("memory hop1", "memory hop2"):
        peaks = sorted((size, summary) for (name, _, size), summary in table.items() if name == row)
        if len(peaks) == 2:
            (_, small), (_, large) = peaks
            yield Claim(f"{row}: peak of the larger model over the smaller's", large.memory / small.memory, 1.15)
            yield Claim(f"{row}: peak in MiB", max(small.memory, large.memory) / MIB, 400)
            if large.group is not None and large.limit is not None:
                # At the limit itself the kernel would be taking back pages that the mover should have given back.
                yield Claim(f"{row}: cgroup peak, page cache counted, over the limit", large.group / large.limit, 0.99)

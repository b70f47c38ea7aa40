"""The runs of one contender on the same data, put together: medians of the times, peaks of the rest."""

from dataclasses import dataclass
from statistics import median

from run import Run
from settings import Settings


@dataclass(frozen=True)
class Summary:
    """Seconds and bytes; `link_ratio` only where the link was shaped and the bytes, not the requests, are the work."""

    row: str
    contender: str
    bytes: int
    seconds: float
    spread: tuple[float, float]
    link_ratio: float | None
    cpu: float
    server_cpu: float
    staging: int
    memory: int
    group: int | None
    limit: int | None
    error: str


def summarize(settings: Settings, runs: list[Run], shaped: bool) -> list[Summary]:
    """One summary for each row, contender and size, in the order of the first runs."""
    groups: dict[tuple[str, str, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.row, run.contender, run.bytes), []).append(run)
    return [_summary(settings, group, shaped) for group in groups.values()]


def _summary(settings: Settings, runs: list[Run], shaped: bool) -> Summary:
    first = runs[0]
    times = [run.seconds for run in runs]
    is_measured_by_link = shaped and first.row in ("hop1", "hop2")
    return Summary(
        row=first.row,
        contender=first.contender,
        bytes=first.bytes,
        seconds=median(times),
        spread=(min(times), max(times)),
        link_ratio=median(times) / settings.link_seconds(first.bytes) if is_measured_by_link else None,
        cpu=median(run.cpu for run in runs),
        server_cpu=median(run.server_cpu for run in runs),
        staging=max(run.staging for run in runs),
        memory=max(run.memory for run in runs),
        group=max((run.group for run in runs if run.group is not None), default=None),
        limit=first.limit,
        error=next((run.error for run in runs if run.error), ""),
    )

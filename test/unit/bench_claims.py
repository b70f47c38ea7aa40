# ruff: noqa: S101 (a test)
"""A table of the bench's claims: each holds, does not hold, cannot be judged, and was not asked for; and the exit codes."""

import contextlib
import io
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "test/bench"))

import bench
from claims import Claim, judge
from run import Run
from summary import Summary

from settings import Settings, read_settings

MIB = 2**20
FULL = read_settings(["--size", "4GB", "--turns", "3"])
SMALL, LARGE = FULL.memory_sizes
TEXTS = {
    "floor": "hop1: seconds over the raw floor",
    "spec": "hop1: times faster than the spec's pipeline",
    "cpu": "hop1: CPU seconds a GB",
    "link": "hop2: seconds over bytes/bandwidth",
    "sync": "hop2: CPU over aws s3 sync",
    "hf": "small hop1: seconds over hf download, then s5cmd",
    "both": "small hop1: seconds over s5cmd's download and upload of the same",
    "put": "small hop1: seconds over s5cmd's upload alone",
    "small hop2": "small hop2: seconds over s5cmd",
    "growth 1": "memory hop1: peak of the larger model over the smaller's",
    "peak 1": "memory hop1: peak in MiB",
    "cgroup 1": "memory hop1: cgroup peak, page cache counted, over the limit",
    "growth 2": "memory hop2: peak of the larger model over the smaller's",
    "peak 2": "memory hop2: peak in MiB",
    "cgroup 2": "memory hop2: cgroup peak, page cache counted, over the limit",
}
# claim; row, contender and bytes of the figure that is turned; which one; where the claim holds, where it does not
TURNS: list[tuple[str, str, str, int, str, float, float]] = [
    ("floor", "hop1", "ours", FULL.size, "link_ratio", 1.049, 1.051),
    ("spec", "hop1", "spec", FULL.size, "link_ratio", 1.76, 1.74),
    ("cpu", "hop1", "ours", FULL.size, "cpu", 9.9, 10.1),
    ("link", "hop2", "ours", FULL.size, "link_ratio", 1.09, 1.11),
    ("sync", "hop2", "ours", FULL.size, "cpu", 7.9, 8.1),
    ("hf", "small hop1", "ours", 20_000_000, "seconds", 79, 81),
    ("both", "small hop1", "ours", 20_000_000, "seconds", 159, 161),
    ("put", "small hop1", "ours", 20_000_000, "seconds", 79, 81),
    ("small hop2", "small hop2", "ours", 20_000_000, "seconds", 79, 81),
    ("growth 1", "memory hop1", "ours", LARGE, "memory", 344 * MIB, 346 * MIB),
    ("peak 1", "memory hop1", "ours", LARGE, "memory", 399 * MIB, 401 * MIB),
    ("cgroup 1", "memory hop1", "ours", LARGE, "group", 989, 991),
    ("growth 2", "memory hop2", "ours", LARGE, "memory", 344 * MIB, 346 * MIB),
    ("peak 2", "memory hop2", "ours", SMALL, "memory", 399 * MIB, 401 * MIB),
    ("cgroup 2", "memory hop2", "ours", LARGE, "group", 989, 991),
]
# what failed; the claims that cannot be judged then; why
FAILED = [
    ("hop1", "ours", {"floor", "spec", "cpu"}, "hop1 of ours failed"),
    ("hop1", "floor", {"floor"}, "hop1 of floor failed"),
    ("hop1", "spec", {"spec"}, "hop1 of spec failed"),
    ("hop2", "ours", {"link", "sync"}, "hop2 of ours failed"),
    ("hop2", "spec", {"sync"}, "hop2 of spec failed"),
    ("hop2", "s5cmd", set(), ""),
    ("small hop1", "ours", {"hf", "both", "put"}, "small hop1 of ours failed"),
    ("small hop1", "s5cmd", {"hf"}, "small hop1 of s5cmd failed"),
    ("small hop1", "put", {"both", "put"}, "small hop1 of put failed"),
    ("small hop2", "s5cmd", {"both", "small hop2"}, "small hop2 of s5cmd failed"),
    ("memory hop1", "ours", {"growth 1", "peak 1", "cgroup 1"}, "memory hop1 of ours failed"),
    ("memory hop2", "ours", {"growth 2", "peak 2", "cgroup 2"}, "memory hop2 of ours failed"),
]
HOPS = {"floor", "spec", "cpu", "link", "sync"}
FILES = {"hf", "both", "put", "small hop2"}
MEMORY = TEXTS.keys() - HOPS - FILES
# what was asked for; the claims that were not asked for then; why; whether their figures are shown all the same
LESS: list[tuple[dict[str, Any], set[str], str, bool]] = [
    ({"size": 4 * 10**9 - 1}, HOPS, "takes --size 4GB", True),
    ({"small_files": 1999}, FILES, "takes --small-files 2000", True),
    ({"small_size": 9999}, FILES, "takes --small-size 10KB", True),
    ({"turns": 2}, HOPS | FILES, "takes --turns 3", True),
    ({"memory_sizes": (SMALL, LARGE - 1)}, MEMORY, "takes --memory-large 20GB", True),
    ({"memory_sizes": (LARGE, LARGE)}, MEMORY, "takes --memory-small 200MB", True),
    ({"memory_sizes": (LARGE, SMALL)}, set(), "", True),
    ({"contenders": ("s5cmd", "floor", "ours")}, {"spec", "sync"}, "spec was left out", False),
    ({"contenders": ("spec", "floor", "ours")}, FILES, "s5cmd was left out", False),
    ({"contenders": ("spec", "s5cmd", "ours")}, {"floor"}, "floor was left out", False),
    ({"contenders": ("spec", "s5cmd", "floor")}, set(TEXTS), "ours was left out", False),
]


def summaries() -> list[Summary]:
    """Figures with which every claim holds."""
    hops = [
        *[("hop1", name, FULL.size) for name in ("spec", "s5cmd", "floor", "ours")],
        *[("hop2", name, FULL.size) for name in ("spec", "s5cmd", "ours")],
        *[("small hop1", name, 20_000_000) for name in ("put", "s5cmd", "ours")],
        *[("small hop2", name, 20_000_000) for name in ("s5cmd", "ours")],
        # The larger one first: a claim must not rely on the order.
        *[(f"memory {hop}", "ours", size) for size in (LARGE, SMALL) for hop in ("hop1", "hop2")],
    ]
    return [
        Summary(
            row=row,
            contender=contender,
            bytes=size,
            seconds=40,
            spread=(40, 40),
            link_ratio=(2.0 if (row, contender) == ("hop1", "spec") else 1.0) if row in ("hop1", "hop2") else None,
            cpu=8,
            server_cpu=1,
            staging=0,
            memory=300 * MIB,
            group=900 if "memory" in row else None,
            limit=1000 if "memory" in row else None,
            error="",
        )
        for row, contender, size in hops
    ]


def turned(row: str, contender: str, size: int, **figures: Any) -> list[Summary]:
    return [
        replace(one, **figures) if (one.row, one.contender, one.bytes) == (row, contender, size) else one
        for one in summaries()
    ]


def by_name(settings: Settings, figures: list[Summary]) -> dict[str, Claim]:
    names = {text: name for name, text in TEXTS.items()}
    return {names[claim.text]: claim for claim in judge(settings, figures)}


def expect(claims: dict[str, Claim], names: set[str], verdict: str, reason: str) -> None:
    """These claims have the verdict and the reason, all others hold."""
    for name, claim in claims.items():
        wanted = (verdict, reason) if name in names else ("yes", "")
        assert (claim.verdict, claim.reason) == wanted, (name, claim)
        assert claim.failed == (claim.verdict in ("NO", "cannot be judged")), claim
    assert names <= claims.keys(), names - claims.keys()


def check_figures() -> None:
    expect(by_name(FULL, summaries()), set(), "", "")
    for name, row, contender, size, figure, good, bad in TURNS:
        assert by_name(FULL, turned(row, contender, size, **{figure: good}))[name].verdict == "yes", name
        claim = by_name(FULL, turned(row, contender, size, **{figure: bad}))[name]
        assert (claim.verdict, claim.failed) == ("NO", True), claim
        print(name, claim.value, "for", claim.bound)
    assert {name for name, *_ in TURNS} == TEXTS.keys(), "every claim can fail"


def check_gaps() -> None:
    for row, contender, names, reason in FAILED:
        broken = [
            replace(one, error="x") if (one.row, one.contender) == (row, contender) else one for one in summaries()
        ]
        expect(by_name(FULL, broken), names, "cannot be judged", reason)
        missing = [one for one in summaries() if (one.row, one.contender) != (row, contender)]
        expect(by_name(FULL, missing), names, "cannot be judged", reason)
        print(row, contender, "gone:", *sorted(names))
    unshaped = [replace(one, link_ratio=None) for one in summaries()]
    expect(by_name(FULL, unshaped), {"floor", "spec", "link"}, "cannot be judged", "the link was not shaped")
    ungrouped = [replace(one, group=None, limit=None) for one in summaries()]
    expect(by_name(FULL, ungrouped), {"cgroup 1", "cgroup 2"}, "cannot be judged", "there was no memory cgroup")
    one_size = [one for one in summaries() if (one.row, one.bytes) != ("memory hop2", LARGE)]
    expect(
        by_name(FULL, one_size),
        {"growth 2", "peak 2", "cgroup 2"},
        "cannot be judged",
        "memory hop2 has no second size",
    )


def check_less() -> None:
    for asked, names, reason, shown in LESS:
        claims = by_name(replace(FULL, **asked), summaries())
        expect(claims, names, "not asked for", reason)
        assert all((claims[name].value is not None) == shown for name in names), asked
        print("asked for", asked)
    for rows, names in ((("hop1",), {"floor", "spec", "cpu"}), (("hop2",), {"link", "sync"}), (("small",), FILES)):
        assert by_name(replace(FULL, rows=rows), summaries()).keys() == names
    # Where too little was asked for, what the machine does not allow does not matter, nor which run failed.
    unshaped = [replace(one, link_ratio=None) for one in summaries()]
    expect(by_name(replace(FULL, size=10**9), unshaped), HOPS, "not asked for", "takes --size 4GB")
    alone = replace(FULL, contenders=("ours",))
    for figures in (unshaped, [replace(one, error="x") for one in summaries()]):
        claims = by_name(alone, figures)
        left_out = {name for name, claim in claims.items() if claim.verdict == "not asked for"}
        assert left_out == {"floor", "spec", "sync"} | FILES, left_out


def check_exit_codes() -> None:
    """With the machine and the runs made up."""
    good = Run("hop2", "ours", FULL.size, 42, 8, 1, 0, 300 * MIB, None, None, "")
    slow = replace(good, seconds=50)
    wrong = replace(good, error="config.json has wrong bytes")
    full, half = ["--size", "4GB", "--turns", "3"], ["--size", "2GB"]
    rows: list[tuple[list[str], bool, list[Run], int, str]] = [
        (full, True, [good] * 3, 0, "yes"),
        (full, True, [good, slow, slow], 1, "FAILED hop2: seconds over bytes/bandwidth: 1.250, not <= 1.1"),
        (full, True, [good, good, slow], 0, "yes"),
        (full, True, [good, good, wrong], 1, "FAILED hop2 ours: config.json has wrong bytes"),
        (
            full,
            False,
            [good] * 3,
            1,
            "FAILED hop2: seconds over bytes/bandwidth: cannot be judged: the link was not shaped",
        ),
        (half, True, [replace(slow, bytes=FULL.size // 2)], 0, "not asked for: takes --size 4GB --turns 3"),
        (half, False, [good], 0, "not asked for: takes --size 4GB --turns 3"),
        (half, True, [wrong], 1, "FAILED hop2 ours: config.json has wrong bytes"),
    ]
    for flags, shaped, runs, code, words in rows:
        plan = SimpleNamespace(notes=[], recorder=SimpleNamespace(runs=runs), run=lambda: None)
        end = SimpleNamespace(close=lambda: None, shaped=shaped, disk=Path())
        vars(bench).update(
            get_tools=lambda contenders: None,
            Folders=lambda *_, end=end: end,
            Link=lambda *_, end=end: end,
            Plan=lambda *_, plan=plan: plan,
        )
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as text:
            given = bench.main([*flags, "--rows", "hop2", "--only", "ours", "--json", f"{folder}/result.json"])
        assert given == code, (flags, given, text.getvalue())
        assert words in text.getvalue(), (words, text.getvalue())
        print("exit", given, words)


check_figures()
check_gaps()
check_less()
check_exit_codes()
print("done")

# ruff: noqa: S101 (a test)
"""What the lanes promise: results in order, no more at once than there are lanes, and nothing begun behind an error."""

import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "k8s/mover"))

from lanes import Lanes

COUNT = 4


def check_results() -> None:
    """As many side by side as there are lanes, whatever their order of ending; each item once."""
    together = threading.Barrier(COUNT)

    def square(number: int) -> int:
        # Nobody passes alone.
        together.wait(timeout=30)
        return number * number

    items = list(range(10 * COUNT))
    with Lanes(COUNT, "test") as lanes:
        assert lanes.map(square, items) == [number * number for number in items]
        assert lanes.map(square, []) == []


def check_few_items() -> None:
    """Fewer items than lanes."""
    with Lanes(COUNT, "test") as lanes:
        assert lanes.map(str, [7]) == ["7"]


def check_error() -> None:
    """Comes up while other lanes still wait for a server; no item is begun after it."""
    silent = threading.Event()
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        if number == 1:
            raise ValueError("the second item")
        silent.wait()

    try:
        with Lanes(2, "test") as lanes:
            lanes.map(work, range(100))
    except ValueError as error:
        assert str(error) == "the second item"
    else:
        raise AssertionError("the error is lost")
    others = [thread for thread in threading.enumerate() if thread.name.startswith("test")]
    silent.set()
    for thread in others:
        thread.join()
    assert begun == [0, 1], begun


check_results()
check_few_items()
check_error()
print("done")

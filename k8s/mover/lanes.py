"""Many small pieces of work side by side: each waits for a server or a disk."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Lanes:
    """Threads that take items in order. One task a lane: one an item costs more than a small file's read."""

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """work(item) of each, in their order. Raises an error as soon as it comes up; no item is begun after it."""
        results: dict[int, Result] = {}
        # An iterator over a range hands each number out once, whoever asks.
        numbers = iter(range(len(items)))
        failed = threading.Event()

        def carry() -> None:
            for number in numbers:
                if failed.is_set():
                    return
                try:
                    results[number] = work(items[number])
                except BaseException:
                    failed.set()
                    raise

        for lane in as_completed([self._pool.submit(carry) for _ in range(min(self._count, len(items)))]):
            lane.result()
        return [results[number] for number in range(len(items))]

    def __enter__(self) -> "Lanes":
        return self

    def __exit__(self, *error: object) -> None:
        # Whoever is told to stop waits for no silent server.
        self._pool.shutdown(wait=False, cancel_futures=True)

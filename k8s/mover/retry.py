"""Tries again what is worth it, at the pace the server asks for."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from failure import Failure, Stopped

T = TypeVar("T")

BASE_SECONDS = 0.5
CAP_SECONDS = 20.0
# The Hub counts requests in windows of five minutes; no honest answer asks for much more.
RETRY_AFTER_CAP_SECONDS = 600.0
# Of all causes together; each has its own limit too.
MOST_TRIES = 8


def retry(action: Callable[[], T], stop: threading.Event) -> T:
    """Runs `action` until it succeeds, its failure is final, or its cause's tries are used up.

    Each cause counts for itself: one odd answer behind two resets is not the third odd answer.
    Backs off exponentially with full jitter, so that many pods behind one address do not come back together, and never
    sooner than a server asks for. Raises the last Failure, at once one that an inner call has given up on; or Stopped.
    """
    seen: Counter[str] = Counter()
    while True:
        try:
            return action()
        except Failure as failure:
            seen[failure.cause] += 1
            attempt = seen.total()
            if failure.given_up or seen[failure.cause] >= failure.row.tries or attempt >= MOST_TRIES:
                failure.given_up = True
                raise
            wait = backoff(attempt, failure.retry_after)
            left = min(failure.row.tries - seen[failure.cause], MOST_TRIES - attempt)
            print(f"retry {attempt} of {attempt + left - 1} in {wait:.1f} s: {failure.detail}", flush=True)
        if stop.wait(wait):
            raise Stopped()


def backoff(attempt: int, retry_after: float | None) -> float:
    """Seconds to wait behind the `attempt`-th failure (from 1), with full jitter, and never less than a server asks for."""
    wait = random.uniform(0.2, 1.0) * min(CAP_SECONDS, BASE_SECONDS * 2 ** (attempt - 1))
    if retry_after is not None:
        wait = max(wait, min(retry_after, RETRY_AFTER_CAP_SECONDS) + random.uniform(0.0, 0.5))
    return wait

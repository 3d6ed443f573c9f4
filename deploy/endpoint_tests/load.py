"""A load in an open loop: requests leave when they are due, whether or not earlier ones are answered.

A latency is counted from the moment at which its request was due. An endpoint that stalls therefore pays for
all that had to wait, and not only for the request that found it stalled (coordinated omission).
"""

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

CLIENTS = 64
"""At most so many requests are under way at once."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request of a load; times in seconds from the load's beginning."""

    due: float
    ended: float
    error: str = ""

    @property
    def milliseconds(self) -> float:
        return 1000 * (self.ended - self.due)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a load has found."""

    requests: tuple[Request, ...]
    per_second: float

    @property
    def answered(self) -> list[Request]:
        return [request for request in self.requests if not request.error]

    @property
    def errors(self) -> list[str]:
        return [request.error for request in self.requests if request.error]

    @property
    def throughput(self) -> float:
        """Answers a second, from the first request that was due to the last answer."""
        scheduled = len(self.requests) / self.per_second
        return len(self.answered) / max(scheduled, *(request.ended for request in self.requests))

    def percentile(self, percentile: int) -> float:
        """Milliseconds; infinite where nothing was answered."""
        latencies = [request.milliseconds for request in self.answered]
        return float(np.percentile(latencies, percentile)) if latencies else math.inf


def run_load(invoke: Callable[[int], object], *, per_second: float, count: int) -> Load:
    """Call `invoke` with 0, 1, 2, …, evenly spaced."""
    began = time.monotonic()

    def request(number: int) -> Request:
        due = number / per_second
        time.sleep(max(0.0, began + due - time.monotonic()))
        error = ""
        try:
            invoke(number)
        except Exception as failure:  # whatever went wrong with a request is what is counted
            error = f"{type(failure).__name__}: {failure}"
        return Request(due=due, ended=time.monotonic() - began, error=error)

    # A pool takes its work in order: a client that is free waits for the next request that is due.
    with ThreadPoolExecutor(min(CLIENTS, count)) as pool:
        return Load(requests=tuple(pool.map(request, range(count))), per_second=per_second)

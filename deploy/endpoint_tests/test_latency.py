"""One image is answered within the limit that the platform states."""

import os
import time

import numpy as np
from endpoint import Endpoint, Sample, npy

WARM_UP = 3
REQUESTS = 40


def test_one_image_is_answered_in_time(
    endpoint: Endpoint, sample: Sample, measured: dict[str, float]
) -> None:
    body = npy(sample.images[0])
    for _ in range(WARM_UP):
        endpoint.invoke(body, "application/x-npy")

    seconds = [_seconds(endpoint, body) for _ in range(REQUESTS)]

    for percentile in (50, 95, 99):
        measured[f"latency_p{percentile}_ms"] = 1000 * float(np.percentile(seconds, percentile))
    assert measured["latency_p95_ms"] <= float(os.environ["LATENCY_LIMIT_MILLISECONDS"])


def _seconds(endpoint: Endpoint, body: bytes) -> float:
    began = time.perf_counter()
    endpoint.invoke(body, "application/x-npy")
    return time.perf_counter() - began

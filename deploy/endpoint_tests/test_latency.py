"""Under the load that the stage's file states, each request is answered, quickly enough and often enough."""

from collections import Counter

import pytest
from findings import Measured
from limits import Limits
from load import Load


def test_each_request_of_the_load_is_answered(load: Load, measured: Measured) -> None:
    errors = Counter(load.errors)

    measured["load_errors"] = errors.total()
    assert not errors, (
        f"{errors.total()} of {len(load.requests)} failed; most often {errors.most_common(1)[0]}"
    )


@pytest.mark.parametrize("percentile", [50, 95, 99])
def test_the_latency_is_within_its_limit(
    load: Load, limits: Limits, measured: Measured, percentile: int
) -> None:
    limit = getattr(limits, f"LatencyP{percentile}Milliseconds")

    measured.at_most(f"latency_p{percentile}_ms", load.percentile(percentile), limit)


def test_the_throughput_reaches_its_limit(load: Load, limits: Limits, measured: Measured) -> None:
    measured.at_least("throughput_per_second", load.throughput, limits.ThroughputPerSecond)

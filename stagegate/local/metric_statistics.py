"""What CloudWatch makes of the data that it was sent: samples, and their statistics.

After "CloudWatch statistics definitions" and "Percentiles" in the CloudWatch User Guide.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STATISTICS = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
PERCENTILE = re.compile(r"p(100(?:\.0{1,10})?|\d{1,2}(?:\.\d{1,10})?)")

_EXACT_VALUES = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What one datum of PutMetricData says: single values, or only their statistics."""

    time: float
    count: float
    total: float
    minimum: float
    maximum: float
    values: tuple[tuple[float, float], ...] = ()
    """(value, how often); none where only statistics were given that say nothing of the single values."""
    unit: str = "None"


def sample_of(datum: Mapping[str, Any], *, now: float) -> Sample:
    """A datum of PutMetricData: `Value`, `Values` with `Counts`, or `StatisticValues`."""
    time = datum["Timestamp"].timestamp() if "Timestamp" in datum else now
    unit = datum.get("Unit") or "None"
    if statistics := datum.get("StatisticValues"):
        count, least, most = (statistics[name] for name in ("SampleCount", "Minimum", "Maximum"))
        return Sample(
            time=time,
            count=count,
            total=statistics["Sum"],
            minimum=least,
            maximum=most,
            values=((least, count),) if count == 1 or least == most else (),
            unit=unit,
        )
    values = datum.get("Values") or [datum["Value"]]
    counts = datum.get("Counts") or [1.0] * len(values)
    return Sample(
        time=time,
        count=sum(counts),
        total=sum(value * count for value, count in zip(values, counts, strict=True)),
        minimum=min(values),
        maximum=max(values),
        values=tuple(zip(values, counts, strict=True)),
        unit=unit,
    )


def together(samples: Sequence[Sample]) -> Sample:
    """Samples of one moment and unit as one; of very many values only three digits stay, as CloudWatch's
    percentiles are near the truth too."""
    counts: dict[float, float] = {}
    if all(sample.values for sample in samples):
        for value, count in (pair for sample in samples for pair in sample.values):
            counts[value] = counts.get(value, 0.0) + count
    if len(counts) > _EXACT_VALUES:
        rounded: dict[float, float] = {}
        for value, count in counts.items():
            near = float(f"{value:.3g}")
            rounded[near] = rounded.get(near, 0.0) + count
        counts = rounded
    return Sample(
        time=samples[0].time,
        count=sum(sample.count for sample in samples),
        total=sum(sample.total for sample in samples),
        minimum=min(sample.minimum for sample in samples),
        maximum=max(sample.maximum for sample in samples),
        values=tuple(counts.items()),
        unit=samples[0].unit,
    )


def statistic(name: str, samples: Sequence[Sample]) -> float | None:
    """`Average`, or `p95`, of samples; None for one that they do not have."""
    if percentile := PERCENTILE.fullmatch(name):
        return _percentile(samples, float(percentile[1]) / 100)
    count = sum(sample.count for sample in samples)
    if not count:
        return None
    total = sum(sample.total for sample in samples)
    return {
        "SampleCount": count,
        "Sum": total,
        "Average": total / count,
        "Minimum": min(sample.minimum for sample in samples),
        "Maximum": max(sample.maximum for sample in samples),
    }[name]


def _percentile(samples: Sequence[Sample], share: float) -> float | None:
    """The least value that `share` of the values do not exceed.

    None where of some only statistics are known, or one is negative: then CloudWatch has no percentiles.
    """
    if any(not sample.values or sample.minimum < 0 for sample in samples):
        return None
    values = sorted(pair for sample in samples for pair in sample.values)
    rank = share * sum(count for _, count in values)
    passed = 0.0
    for value, count in values:
        passed += count
        if passed >= rank:
            return value
    return None

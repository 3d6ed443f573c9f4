"""What PutMetricData sent, kept in the store: a series for each metric and unit, whose points are what came
together of a minute, or of a second.
"""

import json
import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stagegate.local.metric_statistics import Sample, sample_of, together
from stagegate.local.store import Store

_MINUTE = 60.0
_PREFIX = "cloudwatch/data "

Dimensions = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What has samples: other dimensions are another metric."""

    namespace: str
    name: str
    dimensions: Dimensions = ()

    @property
    def series(self) -> str:
        """What the names of its series begin with; the unit follows."""
        return f"{_PREFIX}{json.dumps([self.namespace, self.name, self.dimensions], ensure_ascii=False)} "

    def shown(self) -> dict[str, Any]:
        dimensions = [{"Name": name, "Value": value} for name, value in self.dimensions]
        return {"Namespace": self.namespace, "MetricName": self.name, "Dimensions": dimensions}


def metric_of(namespace: str, given: Mapping[str, Any]) -> Metric:
    """The metric that a datum, a query or an alarm names."""
    dimensions = sorted((of["Name"], of["Value"]) for of in given.get("Dimensions") or ())
    return Metric(namespace=namespace, name=given["MetricName"], dimensions=tuple(dimensions))


def put(store: Store, namespace: str, data: Sequence[Mapping[str, Any]]) -> list[tuple[Metric, Sample]]:
    """Keep data that was checked; gives each with its metric.

    As in CloudWatch, what is not sent with a StorageResolution of a second counts for its minute.
    """
    now = time.time()
    kept = [(metric_of(namespace, datum), sample_of(datum, now=now)) for datum in data]
    new: defaultdict[tuple[str, float], list[Sample]] = defaultdict(list)
    for datum, (metric, sample) in zip(data, kept, strict=True):
        is_fine = (datum.get("StorageResolution") or _MINUTE) < _MINUTE
        at = float(int(sample.time)) if is_fine else sample.time // _MINUTE * _MINUTE
        new[f"{metric.series}{sample.unit};", at].append(sample)  # no other unit begins so
    for (series, at), found in new.items():
        before = store.points(series, start=at, end=math.nextafter(at, math.inf))
        merged = together([*(_sample(at, point) for _, point in before), *found])
        store.put_point(series, at, _point(merged))
    return kept


def samples(store: Store, metric: Metric, *, start: float, end: float) -> list[Sample]:
    """From `start` on and before `end`, the oldest first."""
    return [_sample(at, point) for at, point in store.points(metric.series, start=start, end=end)]


def metrics(store: Store, *, since: float) -> list[Metric]:
    """Those that have a sample since then."""
    names = [name for name in store.series(since=since) if name.startswith(_PREFIX)]
    found = [json.loads(name.removeprefix(_PREFIX).rpartition(" ")[0]) for name in names]
    named = [
        Metric(namespace=namespace, name=name, dimensions=tuple((key, value) for key, value in dimensions))
        for namespace, name, dimensions in found
    ]
    return list(dict.fromkeys(named))


def _point(sample: Sample) -> dict[str, Any]:
    if len(sample.values) == 1:
        return {"values": sample.values, "unit": sample.unit}
    whole = {"count": sample.count, "sum": sample.total, "min": sample.minimum, "max": sample.maximum}
    return whole | {"unit": sample.unit} | ({"values": sample.values} if sample.values else {})


def _sample(at: float, point: Mapping[str, Any]) -> Sample:
    values: Sequence[Sequence[float]] = point.get("values", ())
    value, count = values[0] if values else (0.0, 0.0)
    return Sample(
        time=at,
        count=point.get("count", count),
        total=point.get("sum", value * count),
        minimum=point.get("min", value),
        maximum=point.get("max", value),
        values=tuple((value, count) for value, count in values),
        unit=point["unit"],
    )

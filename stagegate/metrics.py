"""Numbers over time, from CloudWatch."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from stagegate.aws import Services

_QUERIES = 100
"""At once: AWS takes 500."""
_FINE = timedelta(minutes=20)
"""What is shorter is asked for by the second, where CloudWatch has that."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """One metric, as `statistic` of each period."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    statistic: str


def read_metrics(
    services: Services, queries: Sequence[Query], *, start: datetime, end: datetime, period: int
) -> list[list[tuple[float, float]]]:
    """Of each query its points, as seconds since 1970 and value, the oldest first."""
    found: list[list[tuple[float, float]]] = []
    for at in range(0, len(queries), _QUERIES):
        some = queries[at : at + _QUERIES]
        points: dict[str, list[tuple[float, float]]] = {f"q{number}": [] for number in range(len(some))}
        pages = (
            services("cloudwatch")
            .get_paginator("get_metric_data")
            .paginate(
                MetricDataQueries=[
                    {
                        "Id": f"q{number}",
                        "MetricStat": {
                            "Metric": {
                                "Namespace": query.namespace,
                                "MetricName": query.name,
                                "Dimensions": [{"Name": key, "Value": of} for key, of in query.dimensions],
                            },
                            "Period": period,
                            "Stat": query.statistic,
                        },
                    }
                    for number, query in enumerate(some)
                ],
                StartTime=start,
                EndTime=end,
                ScanBy="TimestampAscending",
            )
        )
        for result in (result for page in pages for result in page["MetricDataResults"]):
            times = [time.timestamp() for time in result["Timestamps"]]
            points[result["Id"]] += zip(times, result["Values"], strict=True)
        found += [sorted(of) for of in points.values()]
    return found


def read_closely(
    services: Services, queries: Sequence[Query], *, start: datetime, end: datetime
) -> list[list[tuple[float, float]]]:
    """As closely as CloudWatch has it: what was sent by the minute has nothing by the second."""
    is_recent = start > datetime.now(UTC) - timedelta(hours=3)  # then it forgets the seconds
    if is_recent and end - start < _FINE:
        found = read_metrics(services, queries, start=start, end=end, period=1)
        if any(found):
            return found
    minutes = max(1, round((end - start).total_seconds() / 60 / 500))
    start = start.replace(second=0, microsecond=0)
    return read_metrics(services, queries, start=start, end=end, period=60 * minutes)

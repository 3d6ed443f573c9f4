"""CloudWatch's metrics: what was sent, read back as statistics of periods."""

import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from stagegate.local.metric_points import Metric, metric_of, metrics, samples
from stagegate.local.metric_requests import check_queries, check_statistics
from stagegate.local.metric_statistics import Sample, statistic
from stagegate.local.pages import page
from stagegate.local.service import AWSError, Service

_LISTED_SECONDS = 14 * 24 * 3600.0
"""What has no data since then is not listed."""
_ACTIVE_SECONDS = 3 * 3600.0
_LISTED = 500
_DATAPOINTS = 100_800  # of one GetMetricData
_MINUTE = 60

Document = dict[str, Any]


class Metrics(Service):
    """Reading metrics; alarms.py takes them in, for the alarms to follow."""

    def get_metric_data(
        self,
        *,
        MetricDataQueries: list[Document],
        StartTime: datetime,
        EndTime: datetime,
        NextToken: str | None = None,
        ScanBy: str = "TimestampDescending",
        MaxDatapoints: int = _DATAPOINTS,
        LabelOptions: Document | None = None,
    ) -> Document:
        check_queries(MetricDataQueries, start=StartTime, end=EndTime)
        if NextToken and not NextToken.isdecimal():
            raise AWSError("InvalidNextToken", f"The token {NextToken} is not valid.")
        found = {
            query["Id"]: self._points(query["MetricStat"], StartTime, EndTime)
            for query in MetricDataQueries
            if "MetricStat" in query
        }
        results = []
        skipped, room = int(NextToken or 0), max(1, min(MaxDatapoints, _DATAPOINTS))
        total = 0
        for query in MetricDataQueries:
            if not query.get("ReturnData", True):
                continue
            points = found.get(query.get("Expression", query["Id"]), [])
            if ScanBy == "TimestampDescending":
                points = points[::-1]
            first, last = max(skipped - total, 0), max(skipped + room - total, 0)
            total += len(points)
            results.append(_result(query, points[first:last], is_whole=last >= len(points)))
        more = {"NextToken": str(skipped + room)} if total > skipped + room else {}
        return {"MetricDataResults": results, "Messages": [], **more}

    def get_metric_statistics(
        self,
        *,
        Namespace: str,
        MetricName: str,
        StartTime: datetime,
        EndTime: datetime,
        Period: int,
        Dimensions: list[dict[str, str]] | None = None,
        Statistics: list[str] | None = None,
        ExtendedStatistics: list[str] | None = None,
        Unit: str | None = None,
    ) -> Document:
        asked = {"Statistics": Statistics, "ExtendedStatistics": ExtendedStatistics, "Period": Period}
        check_statistics({**asked, "StartTime": StartTime, "EndTime": EndTime})
        metric = metric_of(Namespace, {"MetricName": MetricName, "Dimensions": Dimensions})
        periods = self._periods(metric, StartTime, EndTime, Period, Unit)
        points = [_datapoint(start, of, Statistics or (), ExtendedStatistics or ()) for start, of in periods]
        return {"Label": MetricName, "Datapoints": points}

    def list_metrics(
        self,
        *,
        Namespace: str | None = None,
        MetricName: str | None = None,
        Dimensions: list[dict[str, str]] | None = None,
        NextToken: str | None = None,
        RecentlyActive: str | None = None,
        **rest: Any,
    ) -> Document:
        since = time.time() - (_ACTIVE_SECONDS if RecentlyActive else _LISTED_SECONDS)
        found = [
            metric.shown()
            for metric in metrics(self.runtime.store, since=since)
            if Namespace in (None, metric.namespace)
            and MetricName in (None, metric.name)
            and all(_has(metric, wanted) for wanted in Dimensions or ())
        ]
        return page("Metrics", found, NextToken, _LISTED, invalid="InvalidParameterValue")

    def _points(self, wanted: Document, start: datetime, end: datetime) -> list[tuple[float, float]]:
        metric = metric_of(wanted["Metric"]["Namespace"], wanted["Metric"])
        periods = self._periods(metric, start, end, wanted["Period"], wanted.get("Unit"))
        values = [(at, statistic(wanted["Stat"], of)) for at, of in periods]
        return [(at, value) for at, value in values if value is not None]

    def _periods(
        self, metric: Metric, start: datetime, end: datetime, period: int, unit: str | None
    ) -> list[tuple[float, list[Sample]]]:
        """The samples of each period that has any, the oldest first, with the period's beginning.

        The first begins with `start`, rounded down to a minute, or to the period where that is shorter.
        """
        step = min(period, _MINUTE)
        first = start.timestamp() // step * step
        found: defaultdict[int, list[Sample]] = defaultdict(list)
        for sample in samples(self.runtime.store, metric, start=first, end=end.timestamp()):
            if unit in (None, sample.unit):
                found[int((sample.time - first) // period)].append(sample)
        return [(first + number * period, of) for number, of in sorted(found.items())]


def _result(query: Document, points: Sequence[tuple[float, float]], *, is_whole: bool) -> Document:
    name = query["MetricStat"]["Metric"]["MetricName"] if "MetricStat" in query else query["Id"]
    return {
        "Id": query["Id"],
        "Label": query.get("Label") or name,
        "Timestamps": [datetime.fromtimestamp(at, UTC) for at, _ in points],
        "Values": [value for _, value in points],
        "StatusCode": "Complete" if is_whole else "PartialData",
    }


def _datapoint(
    start: float, found: Sequence[Sample], statistics: Sequence[str], extended: Sequence[str]
) -> Document:
    point: Document = {"Timestamp": datetime.fromtimestamp(start, UTC), "Unit": found[0].unit}
    point |= {name: statistic(name, found) for name in statistics}
    known = {name: value for name in extended if (value := statistic(name, found)) is not None}
    return point | ({"ExtendedStatistics": known} if extended else {})


def _has(metric: Metric, wanted: Document) -> bool:
    return any(
        name == wanted["Name"] and wanted.get("Value") in (None, value) for name, value in metric.dimensions
    )

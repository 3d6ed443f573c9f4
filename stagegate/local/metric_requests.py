"""What PutMetricData, GetMetricData and GetMetricStatistics take, and what CloudWatch refuses of it."""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from stagegate.local.metric_statistics import PERCENTILE, STATISTICS
from stagegate.local.service import AWSError

_EARLIEST, _LATEST = timedelta(days=14), timedelta(hours=2)
_SHORT_PERIODS = (1, 5, 10, 20, 30)
_VALUES = 150  # of one datum
_DATAPOINTS = 1_440  # of one GetMetricStatistics
_QUERIES = 500
_ID = re.compile(r"[a-z]\w*", re.ASCII)

Document = Mapping[str, Any]


def check_data(data: Sequence[Document]) -> None:
    """Raises AWSError for data that cannot be."""
    now = datetime.now(UTC)
    for number, datum in enumerate(data, start=1):
        _check_datum(datum, f"MetricData.member.{number}", now=now)


def check_statistics(given: Document) -> None:
    """What GetMetricStatistics was asked for."""
    statistics, extended = given.get("Statistics"), given.get("ExtendedStatistics")
    if not statistics and not extended:
        raise _combination("Must specify either Statistics or ExtendedStatistics")
    if statistics and extended:
        raise _combination("Statistics and ExtendedStatistics cannot both be specified")
    for number, name in enumerate(extended or (), start=1):
        if PERCENTILE.fullmatch(name) is None:
            raise _value(f"The value {name} for parameter ExtendedStatistics.member.{number} {_PERCENTILES}")
    if given["StartTime"] >= given["EndTime"]:
        raise _value("The parameter StartTime must be less than the parameter EndTime.")
    period = given["Period"]
    if period not in _SHORT_PERIODS and period % 60:
        raise _value(f"The parameter Period must be 1, 5, 10, 20, 30, or a multiple of 60, not {period}.")
    asked = math.ceil((given["EndTime"] - given["StartTime"]).total_seconds() / period)
    if asked > _DATAPOINTS:
        raise _combination(
            f"You have requested up to {asked} datapoints, which exceeds the limit of {_DATAPOINTS}. You may "
            "reduce the datapoints requested by increasing Period, or decreasing the time range."
        )


def check_queries(queries: Sequence[Document], *, start: datetime, end: datetime) -> None:
    """What GetMetricData was asked for."""
    if start > end:
        raise _invalid("The parameter EndTime must be greater than StartTime.")
    if start == end:
        raise _invalid("The parameter StartTime must not equal parameter EndTime.")
    if len(queries) > _QUERIES:
        raise _invalid(f"The collection MetricDataQueries must not have a size greater than {_QUERIES}.")
    ids = [query["Id"] for query in queries]
    if len(set(ids)) < len(ids):
        raise _invalid("The values for parameter id in MetricDataQueries are not unique.")
    for number, query in enumerate(queries, start=1):
        _check_query(query, f"MetricDataQueries.member.{number}", ids=ids)


_PERCENTILES = "is not supported by the local runtime; a percentile is, as p95 or p99.9."


def _check_query(query: Document, place: str, *, ids: Sequence[str]) -> None:
    if _ID.fullmatch(query["Id"]) is None:
        raise _invalid(
            f"The value {query['Id']} for parameter {place}.Id is not valid: it must start with a lowercase "
            "letter and contain letters, numbers and underscores only."
        )
    if ("MetricStat" in query) == ("Expression" in query):
        raise _invalid(f"Exactly one of {place}.MetricStat and {place}.Expression must be specified.")
    if "Expression" in query:
        if query["Expression"] not in ids:
            raise _invalid(
                f"The value {query['Expression']} for parameter {place}.Expression is not supported by the "
                "local runtime: it has no metric math; the Id of another query is an expression."
            )
        return
    wanted = query["MetricStat"]
    if wanted["Stat"] not in STATISTICS and PERCENTILE.fullmatch(wanted["Stat"]) is None:
        raise _invalid(f"The value {wanted['Stat']} for parameter {place}.MetricStat.Stat {_PERCENTILES}")
    for member in ("Namespace", "MetricName"):
        if not wanted["Metric"].get(member):
            raise _invalid(f"The parameter {place}.MetricStat.Metric.{member} is required.")
    if wanted["Period"] not in _SHORT_PERIODS and (wanted["Period"] <= 0 or wanted["Period"] % 60):
        raise _invalid(
            f"The value {wanted['Period']} for parameter {place}.MetricStat.Period is not valid: it must be "
            "1, 5, 10, 20, 30, or a multiple of 60."
        )


def _check_datum(datum: Document, place: str, *, now: datetime) -> None:
    values, statistics = datum.get("Values"), datum.get("StatisticValues")
    given = [name for name in ("Value", "Values", "StatisticValues") if datum.get(name) not in (None, [])]
    if not given:
        raise AWSError(
            "MissingParameter",
            f"At least one of the parameters {place}.Value, {place}.Values and {place}.StatisticValues must "
            "be specified.",
        )
    if len(given) > 1:
        raise _combination(
            f"The parameters {place}.{given[0]} and {place}.{given[1]} are mutually exclusive and you have "
            "specified both."
        )
    if values:
        if len(values) > _VALUES:
            raise _value(f"The collection {place}.Values must not have a size greater than {_VALUES}.")
        if datum.get("Counts") and len(datum["Counts"]) != len(values):
            raise _value(f"The parameters {place}.Values and {place}.Counts must be of the same size.")
    numbers = {f"{place}.{given[0]}": [datum["Value"]] if "Value" in datum else values or ()}
    numbers |= {f"{place}.StatisticValues.{name}": [value] for name, value in (statistics or {}).items()}
    for name, found in numbers.items():
        for value in found:
            if not math.isfinite(value):
                raise _value(f"The value {value} for parameter {name} is invalid.")
    if statistics and statistics["SampleCount"] <= 0:
        raise _value(f"The parameter {place}.StatisticValues.SampleCount must be greater than 0.")
    if (resolution := datum.get("StorageResolution")) not in (None, 1, 60):
        raise _value(f"The parameter {place}.StorageResolution must be 1 or 60, not {resolution}.")
    if "Timestamp" in datum and not now - _EARLIEST <= datum["Timestamp"] <= now + _LATEST:
        raise _value(
            f"The parameter {place}.Timestamp must specify a time no more than two weeks in the past and two "
            "hours in the future."
        )


def _invalid(message: str) -> AWSError:
    return AWSError("ValidationError", message)


def _value(message: str) -> AWSError:
    return AWSError("InvalidParameterValue", message)


def _combination(message: str) -> AWSError:
    return AWSError("InvalidParameterCombination", message)

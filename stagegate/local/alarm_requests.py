"""What PutMetricAlarm takes, and what of it is refused: what cannot be, and what we cannot do."""

import re
from collections.abc import Mapping
from typing import Any

from stagegate.local.service import AWSError

_SHORT_PERIODS = (10, 20, 30)
_LONGEST_SECONDS = 24 * 3600
_LONGEST_OF_HOURS = 7 * _LONGEST_SECONDS
_TREATMENTS = ("breaching", "notBreaching", "ignore", "missing")
_NOT_HERE = (
    *("Metrics", "ThresholdMetricId", "EvaluationWindow", "WarmUpConfiguration", "EvaluationCriteria"),
    *("EvaluationInterval", "ActionConfiguration"),
)
_ACTIONS = re.compile(r"arn:aws[\w-]*:(sns|lambda):.+")
_PERCENTILE = re.compile(r"p(100|\d{1,2})(\.\d{1,10})?")

Document = dict[str, Any]


def check_alarm(given: Mapping[str, Any]) -> None:
    """Raises AWSError for what CloudWatch refuses, and for what the local runtime does not have."""
    for member in _NOT_HERE:
        if given.get(member):
            raise _invalid(f"{member} is not supported by the local runtime.")
    for member in ("MetricName", "Namespace", "Period", "Threshold"):
        if given.get(member) is None:
            raise AWSError("MissingParameter", f"The parameter {member} is required.")
    statistic, extended = given.get("Statistic"), given.get("ExtendedStatistic")
    if (statistic is None) == (extended is None):
        raise AWSError(
            "InvalidParameterCombination", "Exactly one of Statistic and ExtendedStatistic must be specified."
        )
    if extended is not None and _PERCENTILE.fullmatch(extended) is None:
        raise _invalid(
            f"The value {extended} for parameter ExtendedStatistic is not supported; a percentile is, as p95."
        )
    if given["ComparisonOperator"] in (
        *("LessThanLowerOrGreaterThanUpperThreshold", "LessThanLowerThreshold"),
        "GreaterThanUpperThreshold",
    ):
        raise _invalid(f"ComparisonOperator {given['ComparisonOperator']} is for anomaly detection models.")
    _check_periods(given)
    if given.get("TreatMissingData") not in (None, *_TREATMENTS):
        raise AWSError(
            "ValidationError",
            f"Option {given['TreatMissingData']} is not supported. Supported options for parameter "
            f"TreatMissingData are {', '.join(_TREATMENTS)}.",
        )
    for member in ("AlarmActions", "OKActions", "InsufficientDataActions"):
        for arn in given.get(member) or ():
            if _ACTIONS.fullmatch(arn) is None:
                raise AWSError(
                    "ValidationError",
                    f"Invalid arn syntax: {arn}; the local runtime acts on topics and functions.",
                )


def as_alarm(given: Mapping[str, Any]) -> Document:
    """The members as DescribeAlarms gives them back."""
    kept = {name: value for name, value in given.items() if value is not None}
    return {
        "ActionsEnabled": True,
        "AlarmActions": [],
        "OKActions": [],
        "InsufficientDataActions": [],
        "Dimensions": [],
        **kept,
    }


def _check_periods(given: Mapping[str, Any]) -> None:
    period, periods = given["Period"], given["EvaluationPeriods"]
    if period not in _SHORT_PERIODS and (period <= 0 or period % 60):
        raise AWSError(
            "ValidationError", f"Period {period} should be 10, 20, 30, or a multiple of 60 seconds."
        )
    longest = _LONGEST_OF_HOURS if period >= 3600 else _LONGEST_SECONDS
    if period * periods > longest:
        raise AWSError(
            "ValidationError",
            "Metrics cannot be checked across more than a day (EvaluationPeriods * Period).",
        )
    to_alarm = given.get("DatapointsToAlarm")
    if to_alarm is not None and to_alarm > periods:
        raise AWSError(
            "ValidationError", f"DatapointsToAlarm {to_alarm} should be at most EvaluationPeriods, {periods}."
        )


def _invalid(message: str) -> AWSError:
    return AWSError("InvalidParameterValue", message)

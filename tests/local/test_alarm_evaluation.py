"""An alarm's state by its datapoints: the cases of the CloudWatch User Guide, and what is said of them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from stagegate.local.alarm_evaluation import Datapoint, datapoints, evaluate
from stagegate.local.metric_statistics import sample_of

NOW = 1_800_000_000.0


def alarm(**members: Any) -> dict[str, Any]:
    return {
        "ComparisonOperator": "GreaterThanThreshold",
        "EvaluationPeriods": 3,
        "Period": 60,
        "Statistic": "Average",
        "StateValue": "the state before",
        "Threshold": 10.0,
        **members,
    }


def points(text: str) -> list[Datapoint | None]:
    """`0` is within the threshold, `X` beyond it, `-` missing; the newest is the last."""
    values = {"0": 1.0, "X": 99.0}
    return [
        None if mark == "-" else Datapoint(start=NOW - 60 * (5 - place), value=values[mark], count=1)
        for place, mark in enumerate(text.split())
    ]


@pytest.mark.parametrize(
    ("text", "missing", "ignore", "breaching", "not_breaching"),
    [
        ("0 - X - X", "OK", "OK", "OK", "OK"),
        ("0 - - - -", "OK", "OK", "OK", "OK"),
        ("- - - - -", "INSUFFICIENT_DATA", "the state before", "ALARM", "OK"),
        ("0 X X - X", "ALARM", "ALARM", "ALARM", "ALARM"),
        ("- - X - -", "ALARM", "the state before", "ALARM", "OK"),
        ("- - - - X", "the state before", "the state before", "ALARM", "OK"),
    ],
)
def test_three_of_three_as_in_the_user_guide(
    text: str, missing: str, ignore: str, breaching: str, not_breaching: str
) -> None:
    treatments = {"missing": missing, "ignore": ignore, "breaching": breaching, "notBreaching": not_breaching}

    found = {
        treatment: evaluate(alarm(TreatMissingData=treatment), points(text), now=NOW).state
        for treatment in treatments
    }

    assert found == treatments


@pytest.mark.parametrize(
    ("text", "missing", "ignore", "breaching", "not_breaching"),
    [
        ("0 - X - X", "ALARM", "ALARM", "ALARM", "ALARM"),
        ("0 0 X 0 X", "ALARM", "ALARM", "ALARM", "ALARM"),
        ("0 - X - -", "OK", "the state before", "ALARM", "OK"),
        ("- - - - 0", "OK", "the state before", "ALARM", "OK"),
        ("- - - X -", "ALARM", "the state before", "ALARM", "OK"),
    ],
)
def test_two_of_three_as_in_the_user_guide(
    text: str, missing: str, ignore: str, breaching: str, not_breaching: str
) -> None:
    treatments = {"missing": missing, "ignore": ignore, "breaching": breaching, "notBreaching": not_breaching}

    found = {
        treatment: evaluate(
            alarm(TreatMissingData=treatment, DatapointsToAlarm=2), points(text), now=NOW
        ).state
        for treatment in treatments
    }

    assert found == treatments


@pytest.mark.parametrize(
    ("statistic", "value"),
    [
        ({"Statistic": "Sum"}, 5 + 20 + 2 * 30),
        ({"Statistic": "SampleCount"}, 4),
        ({"Statistic": "Average"}, 85 / 4),
        ({"Statistic": "Minimum"}, 5),
        ({"Statistic": "Maximum"}, 30),
        ({"Statistic": None, "ExtendedStatistic": "p50"}, 20),
        ({"Statistic": None, "ExtendedStatistic": "p90"}, 30),
        ({"Statistic": None, "ExtendedStatistic": "p0"}, 5),
    ],
)
def test_a_period_has_its_statistic(statistic: dict[str, Any], value: float) -> None:
    samples = [
        sample_of({"Value": 5.0}, now=NOW - 10),
        sample_of({"Values": [20.0, 30.0], "Counts": [1.0, 2.0]}, now=NOW - 59),
        sample_of({"Value": 1_000.0}, now=NOW - 61),
    ]

    found = datapoints(alarm(**statistic), samples, now=NOW)

    assert found[-1] is not None and found[-2] is not None
    assert (found[-1].value, found[-1].start) == (value, NOW - 60)
    assert found[:-2] == [None] * 3


def test_statistics_count_and_have_no_percentile() -> None:
    given = {"SampleCount": 4.0, "Sum": 8.0, "Minimum": 1.0, "Maximum": 3.0}
    time = datetime.fromtimestamp(NOW - 1, UTC)
    sample = sample_of({"StatisticValues": given, "Timestamp": time}, now=0)

    (average,) = [point for point in datapoints(alarm(), [sample], now=NOW) if point]

    assert average.value == 2
    assert datapoints(alarm(ExtendedStatistic="p90"), [sample], now=NOW)[-1] is None


def test_another_unit_is_another_metric() -> None:
    sample = sample_of({"Value": 5.0, "Unit": "Seconds"}, now=NOW - 1)

    assert datapoints(alarm(Unit="Seconds"), [sample], now=NOW)[-1] is not None
    assert datapoints(alarm(Unit="Count"), [sample], now=NOW)[-1] is None


def test_a_percentile_of_few_samples_is_ignored_where_that_is_asked_for() -> None:
    few = [sample_of({"Values": [float(value) for value in range(199)]}, now=NOW - 1)]
    enough = [*few, sample_of({"Value": 500.0}, now=NOW - 1)]
    ignoring = alarm(ExtendedStatistic="p95", EvaluateLowSampleCountPercentile="ignore")

    assert datapoints(ignoring, few, now=NOW)[-1] is None
    assert datapoints(ignoring, enough, now=NOW)[-1] is not None
    assert datapoints(alarm(ExtendedStatistic="p95"), few, now=NOW)[-1] is not None


def test_the_reason_is_in_cloudwatchs_words() -> None:
    one = alarm(EvaluationPeriods=1, ComparisonOperator="GreaterThanOrEqualToThreshold", Threshold=1.0)

    raised = evaluate(one, points("- - X"), now=NOW)
    calm = evaluate(one | {"Threshold": 100.0}, points("- - X"), now=NOW)
    silent = evaluate(one | {"TreatMissingData": "notBreaching"}, points("- - -"), now=NOW)
    unknown = evaluate(one, points("- - -"), now=NOW)

    assert raised.reason == (
        "Threshold Crossed: 1 out of the last 1 datapoints [99.0 (15/01/27 07:57:00)] was greater than or "
        "equal to the threshold (1.0) (minimum 1 datapoint for OK -> ALARM transition)."
    )
    assert "was not greater than or equal to the threshold (100.0)" in calm.reason
    assert calm.reason.endswith("(minimum 1 datapoint for ALARM -> OK transition).")
    assert silent.reason == (
        "Threshold Crossed: no datapoints were received for 1 period and 1 missing datapoint was treated as "
        "[NonBreaching]."
    )
    assert unknown.reason == "Insufficient Data: 1 datapoint was unknown."
    assert raised.data["recentDatapoints"] == [99.0]
    assert raised.data["startDate"] == "2027-01-15T07:57:00.000+0000"

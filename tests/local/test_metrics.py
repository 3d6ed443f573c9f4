"""CloudWatch's metrics on the real runtime: what is sent comes back as statistics of periods."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conftest import Local

LATENCY = "ModelLatency"
STAGE = [{"Name": "Stage", "Value": "production"}]
HOUR = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=1)
"""A full minute; the tests' data begins there."""


def put(local: Local, namespace: str, *data: dict[str, Any]) -> None:
    local.client("cloudwatch").put_metric_data(
        Namespace=namespace,
        MetricData=[
            {"MetricName": LATENCY, "Dimensions": STAGE, "Timestamp": HOUR} | datum for datum in data
        ],
    )


def query(name: str, namespace: str, stat: str, *, period: int = 60, **members: Any) -> dict[str, Any]:
    metric = {"Namespace": namespace, "MetricName": LATENCY, "Dimensions": STAGE}
    return {"Id": name, "MetricStat": {"Metric": metric, "Period": period, "Stat": stat}} | members


def read(local: Local, *queries: dict[str, Any], minutes: float = 10, **members: Any) -> dict[str, Any]:
    found: dict[str, Any] = local.client("cloudwatch").get_metric_data(
        MetricDataQueries=list(queries),
        StartTime=HOUR,
        EndTime=HOUR + timedelta(minutes=minutes),
        **members,
    )
    return found


def values(answer: dict[str, Any]) -> dict[str, list[float]]:
    return {result["Id"]: result["Values"] for result in answer["MetricDataResults"]}


def statistics(local: Local, namespace: str, **members: Any) -> list[dict[str, Any]]:
    asked = {"Period": 60, "StartTime": HOUR, "EndTime": HOUR + timedelta(minutes=10)} | members
    points: list[dict[str, Any]] = local.client("cloudwatch").get_metric_statistics(
        Namespace=namespace, MetricName=LATENCY, Dimensions=STAGE, **asked
    )["Datapoints"]
    return points


def refused(call: Any, *arguments: Any, **members: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(*arguments, **members)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_percentiles_and_statistics_are_of_the_same_values(shared_local: Local) -> None:
    put(
        shared_local,
        "Same",
        {"Values": [float(value) for value in range(1, 101)], "Unit": "Microseconds"},
        {"Value": 1000.0, "Timestamp": HOUR + timedelta(seconds=30), "Unit": "Microseconds"},
        {"Values": [5.0, 7.0], "Counts": [3.0, 1.0], "Timestamp": HOUR + timedelta(minutes=2)},
    )

    stats = ("SampleCount", "Sum", "Average", "Minimum", "Maximum", "p0", "p50", "p95", "p99.9", "p100")
    answer = read(shared_local, *(query(f"q{n}", "Same", stat) for n, stat in enumerate(stats)))
    found = dict(zip(stats, values(answer).values(), strict=True))

    assert found == {  # the newest first
        "SampleCount": [4.0, 101.0],
        "Sum": [22.0, 6050.0],
        "Average": [5.5, 6050 / 101],
        "Minimum": [5.0, 1.0],
        "Maximum": [7.0, 1000.0],
        "p0": [5.0, 1.0],
        "p50": [5.0, 51.0],
        "p95": [7.0, 96.0],
        "p99.9": [7.0, 1000.0],
        "p100": [7.0, 1000.0],
    }
    assert answer["MetricDataResults"][0]["Timestamps"] == [HOUR + timedelta(minutes=2), HOUR]
    assert {result["StatusCode"] for result in answer["MetricDataResults"]} == {"Complete"}

    first, second = statistics(shared_local, "Same", ExtendedStatistics=["p50", "p99.9"])
    assert first == {
        "Timestamp": HOUR,
        "Unit": "Microseconds",
        "ExtendedStatistics": {"p50": 51.0, "p99.9": 1000.0},
    }
    assert second["ExtendedStatistics"] == {"p50": 5.0, "p99.9": 7.0}
    (whole,) = statistics(shared_local, "Same", Statistics=["SampleCount", "Maximum"], Period=600)
    assert (whole["SampleCount"], whole["Maximum"]) == (105.0, 1000.0)
    (fine,) = statistics(shared_local, "Same", Statistics=["Sum"], Unit="Microseconds")
    assert fine["Sum"] == 6050.0


def test_percentiles_of_very_many_values_are_near(shared_local: Local) -> None:
    for start in range(0, 3_000, 150):
        put(shared_local, "Many", {"Values": [1000.0 + value for value in range(start, start + 150)]})

    stats = {"n": "SampleCount", "sum": "Sum", "least": "Minimum", "most": "Maximum", "p": "p90"}
    found = values(read(shared_local, *(query(name, "Many", stat) for name, stat in stats.items())))

    assert found.pop("p") == [pytest.approx(3_699, rel=0.005)]
    assert found == {"n": [3000.0], "sum": [7_498_500.0], "least": [1000.0], "most": [3999.0]}


def test_units_are_kept_apart(shared_local: Local) -> None:
    for unit, value in (("Count", 1.0), ("Count/Second", 2.0), ("Count", 4.0)):
        put(shared_local, "Units", {"Value": value, "Unit": unit})

    one = query("one", "Units", "Sum")
    one["MetricStat"]["Unit"] = "Count"
    assert values(read(shared_local, one, query("all", "Units", "Sum"))) == {"one": [5.0], "all": [7.0]}
    assert len(shared_local.client("cloudwatch").list_metrics(Namespace="Units")["Metrics"]) == 1


def test_statistics_alone_have_a_percentile_only_where_all_values_are_the_same(shared_local: Local) -> None:
    whole = {"SampleCount": 4.0, "Sum": 10.0, "Minimum": 1.0, "Maximum": 4.0}
    put(
        shared_local,
        "Sets",
        {"StatisticValues": whole},
        {
            "StatisticValues": {"SampleCount": 3.0, "Sum": 6.0, "Minimum": 2.0, "Maximum": 2.0},
            "Timestamp": HOUR + timedelta(minutes=1),
        },
        {"Values": [-1.0, 1.0], "Timestamp": HOUR + timedelta(minutes=2)},
    )

    answer = read(shared_local, query("p", "Sets", "p95"), query("a", "Sets", "Average"))

    assert values(answer) == {"p": [2.0], "a": [0.0, 2.0, 2.5]}
    points = statistics(shared_local, "Sets", ExtendedStatistics=["p95"])
    assert [point["ExtendedStatistics"] for point in points] == [{}, {"p95": 2.0}, {}]


def test_seconds_are_kept_apart_where_that_was_asked_for(shared_local: Local) -> None:
    for seconds in (0.4, 1.7, 31):
        at = {"Value": seconds, "Timestamp": HOUR + timedelta(seconds=seconds)}
        put(shared_local, "Fine", at | {"StorageResolution": 1})
        put(shared_local, "Coarse", at)

    fine = read(shared_local, query("f", "Fine", "Sum", period=1), ScanBy="TimestampAscending")
    coarse = read(shared_local, query("c", "Coarse", "SampleCount", period=1))

    (result,) = fine["MetricDataResults"]
    assert result["Timestamps"] == [HOUR + timedelta(seconds=seconds) for seconds in (0, 1, 31)]
    assert result["Values"] == [0.4, 1.7, 31.0]
    assert values(coarse) == {"c": [3.0]}
    assert values(read(shared_local, query("f", "Fine", "Sum", period=30), minutes=0.5)) == {"f": [2.1]}


def test_other_dimensions_are_another_metric(shared_local: Local) -> None:
    put(
        shared_local,
        "Apart",
        {"Value": 1.0},
        {"Value": 2.0, "Dimensions": []},
        {"MetricName": "Other", "Value": 3.0},
    )

    assert values(read(shared_local, query("q", "Apart", "Sum"))) == {"q": [1.0]}
    listed = shared_local.client("cloudwatch").list_metrics
    assert listed(Namespace="Apart", Dimensions=[{"Name": "Stage"}], RecentlyActive="PT3H")["Metrics"] == [
        {"Namespace": "Apart", "MetricName": LATENCY, "Dimensions": STAGE},
        {"Namespace": "Apart", "MetricName": "Other", "Dimensions": STAGE},
    ]
    assert len(listed(Namespace="Apart", MetricName=LATENCY)["Metrics"]) == 2


def test_many_points_come_in_pages(shared_local: Local) -> None:
    put(
        shared_local,
        "Pages",
        *({"Value": float(n), "Timestamp": HOUR + timedelta(minutes=n)} for n in range(5)),
    )
    queries = [query("a", "Pages", "Sum"), query("b", "Pages", "Average", Label="mean")]
    options = {"MaxDatapoints": 3, "ScanBy": "TimestampAscending"}

    first = read(shared_local, *queries, **options)
    pages = [first]
    while token := pages[-1].get("NextToken"):
        pages.append(read(shared_local, *queries, **options, NextToken=token))

    assert [values(page) for page in pages] == [
        {"a": [0.0, 1.0, 2.0], "b": []},
        {"a": [3.0, 4.0], "b": [0.0]},
        {"a": [], "b": [1.0, 2.0, 3.0]},
        {"a": [], "b": [4.0]},
    ]
    assert [result["StatusCode"] for result in first["MetricDataResults"]] == ["PartialData", "PartialData"]
    assert [result["Label"] for result in first["MetricDataResults"]] == [LATENCY, "mean"]


def test_another_query_is_an_expression_and_what_is_not_returned_is_left_out(shared_local: Local) -> None:
    put(shared_local, "Math", {"Value": 1.0})
    hidden = query("m1", "Math", "Sum", ReturnData=False)

    assert values(read(shared_local, hidden, {"Id": "e1", "Expression": "m1"})) == {"e1": [1.0]}
    code, message = refused(read, shared_local, hidden, {"Id": "e1", "Expression": "m1 * 2"})
    assert code == "ValidationError"
    assert "no metric math" in message


@pytest.mark.parametrize(
    ("members", "code", "message"),
    [
        ({}, "InvalidParameterCombination", "Must specify either Statistics or ExtendedStatistics"),
        (
            {"ExtendedStatistics": ["p50", "p101"]},
            "InvalidParameterValue",
            "The value p101 for parameter ExtendedStatistics.member.2 is not supported",
        ),
        (
            {"Statistics": ["Sum"], "EndTime": HOUR},
            "InvalidParameterValue",
            "The parameter StartTime must be less than the parameter EndTime.",
        ),
        (
            {"Statistics": ["Sum"], "Period": 1, "EndTime": HOUR + timedelta(hours=1)},
            "InvalidParameterCombination",
            "You have requested up to 3600 datapoints, which exceeds the limit of 1440.",
        ),
        ({"Statistics": ["Sum"], "Period": 7}, "InvalidParameterValue", "The parameter Period must be 1, 5"),
    ],
)
def test_statistics_that_cannot_be_are_refused(
    shared_local: Local, members: dict[str, Any], code: str, message: str
) -> None:
    answered = refused(statistics, shared_local, "Same", **members)

    assert answered[0] == code
    assert answered[1].startswith(message)


def test_queries_that_cannot_be_are_refused(shared_local: Local) -> None:
    for stat in ("p100.5", "P95", "tm99", "Mean"):
        code, message = refused(read, shared_local, query("q", "Same", stat))
        assert code == "ValidationError"
        assert message.startswith(
            f"The value {stat} for parameter MetricDataQueries.member.1.MetricStat.Stat"
        )
    twice = refused(read, shared_local, query("q", "Same", "Sum"), query("q", "Same", "Sum"))
    assert twice == ("ValidationError", "The values for parameter id in MetricDataQueries are not unique.")
    never = refused(read, shared_local, query("q", "Same", "Sum"), minutes=0)
    assert never == ("ValidationError", "The parameter StartTime must not equal parameter EndTime.")


@pytest.mark.parametrize(
    ("datum", "code", "message"),
    [
        ({}, "MissingParameter", "At least one of the parameters MetricData.member.2.Value"),
        (
            {"Value": 1.0, "Values": [1.0]},
            "InvalidParameterCombination",
            "The parameters MetricData.member.2.Value and MetricData.member.2.Values are mutually exclusive",
        ),
        (
            {"Values": [1.0], "Counts": [1.0, 2.0]},
            "InvalidParameterValue",
            "The parameters MetricData.member.2",
        ),
        (
            {"Value": float("nan")},
            "InvalidParameterValue",
            "The value nan for parameter MetricData.member.2.V",
        ),
        ({"Values": [1.0] * 151}, "InvalidParameterValue", "The collection MetricData.member.2.Values must"),
        (
            {"Value": 1.0, "Timestamp": HOUR + timedelta(days=1)},
            "InvalidParameterValue",
            "The parameter MetricData.member.2.Timestamp must specify a time no more than two weeks",
        ),
        (
            {"Value": 1.0, "StorageResolution": 5},
            "InvalidParameterValue",
            "The parameter MetricData.member.2.StorageResolution must be 1 or 60, not 5.",
        ),
    ],
)
def test_data_that_cannot_be_is_refused_whole(
    shared_local: Local, datum: dict[str, Any], code: str, message: str
) -> None:
    answered = refused(put, shared_local, "Refused", {"Value": 1.0}, datum)

    assert answered[0] == code
    assert answered[1].startswith(message)
    assert shared_local.client("cloudwatch").list_metrics(Namespace="Refused")["Metrics"] == []


def test_metrics_outlive_a_kill(local: Local) -> None:
    put(local, "Kept", {"Values": [1.0, 2.0, 3.0]})

    local.kill()
    local.start()

    assert values(read(local, query("q", "Kept", "p50"))) == {"q": [2.0]}

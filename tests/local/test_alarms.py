"""Alarms on the real runtime: they follow their metrics, tell who is to be told, and outlive a kill."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conftest import Local

PATIENCE = 40
ERRORS = {
    "Namespace": "Shop",
    "MetricName": "Errors",
    "Statistic": "Sum",
    "Period": 10,
    "EvaluationPeriods": 1,
    "Threshold": 2.0,
    "ComparisonOperator": "GreaterThanOrEqualToThreshold",
}


def put(local: Local, name: str, **members: Any) -> None:
    local.client("cloudwatch").put_metric_alarm(AlarmName=name, **(ERRORS | members))


def send(local: Local, metric: str, value: float) -> None:
    data = [{"MetricName": metric, "Value": value, "Dimensions": [{"Name": "Stage", "Value": "production"}]}]
    local.client("cloudwatch").put_metric_data(Namespace="Shop", MetricData=data)


def described(local: Local, name: str) -> dict[str, Any]:
    (alarm,) = local.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
    found: dict[str, Any] = alarm
    return found


def wait_for(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return found


def becomes(local: Local, name: str, state: str) -> dict[str, Any]:
    """The alarm, once it has that state."""
    found: dict[str, Any] = wait_for(
        lambda: (alarm := described(local, name))["StateValue"] == state and alarm
    )
    return found


def mails(local: Local) -> list[str]:
    inbox = json.loads(local.get("/_stagegate/inbox"))
    return [mail["subject"] for mail in inbox]


def test_an_alarm_follows_its_metric_tells_a_topic_and_starts_what_a_rule_says(local: Local) -> None:
    sns, events, sqs = (local.client(name) for name in ("sns", "events", "sqs"))
    topic = sns.create_topic(Name="alarms")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="ada@example.com")
    queue = sqs.create_queue(QueueName="changes")["QueueUrl"]
    queue_arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]
    events.put_rule(Name="alarms", EventPattern=json.dumps({"source": ["aws.cloudwatch"]}))
    events.put_targets(Rule="alarms", Targets=[{"Id": "queue", "Arn": queue_arn}])
    put(
        local,
        "errors",
        Dimensions=[{"Name": "Stage", "Value": "production"}],
        TreatMissingData="notBreaching",
        AlarmActions=[topic],
        AlarmDescription="too many",
    )

    send(local, "Errors", 1)
    send(local, "Errors", 1)
    send(local, "Warnings", 9)
    raised = becomes(local, "errors", "ALARM")
    calm = becomes(local, "errors", "OK")

    assert raised["StateReason"].startswith("Threshold Crossed: 1 out of the last 1 datapoints [2.0 (")
    assert json.loads(raised["StateReasonData"])["recentDatapoints"] == [2.0]
    assert raised["StateTransitionedTimestamp"] < calm["StateTransitionedTimestamp"]
    wait_for(lambda: mails(local) == ['ALARM: "errors" in us-east-1'])
    (message,) = [
        json.loads(found["Body"])
        for found in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
        if '"value": "ALARM"' in json.dumps(json.loads(found["Body"])["detail"]["state"])
    ]
    assert message["detail-type"] == "CloudWatch Alarm State Change"
    assert message["detail"]["configuration"]["metrics"][0]["metricStat"] == {
        "metric": {"namespace": "Shop", "name": "Errors", "dimensions": {"Stage": "production"}},
        "period": 10,
        "stat": "Sum",
    }
    history = local.client("cloudwatch").describe_alarm_history(AlarmName="errors")["AlarmHistoryItems"]
    kinds = [item["HistoryItemType"] for item in history]
    assert kinds.count("Action") == 1
    assert kinds[-1] == "ConfigurationUpdate"
    assert f"Successfully executed action {topic}" in [item["HistorySummary"] for item in history]


def test_a_new_alarm_knows_nothing_and_an_updated_one_keeps_its_state(shared_local: Local) -> None:
    put(shared_local, "kept", Tags=[{"Key": "team", "Value": "ml"}])
    new = described(shared_local, "kept")
    cloudwatch = shared_local.client("cloudwatch")
    cloudwatch.set_alarm_state(AlarmName="kept", StateValue="ALARM", StateReason="by hand")

    put(shared_local, "kept", Threshold=5.0)

    updated = described(shared_local, "kept")
    assert (new["StateValue"], new["StateReason"]) == (
        *("INSUFFICIENT_DATA",),
        "Unchecked: Initial alarm creation",
    )
    assert (updated["StateValue"], updated["StateReason"], updated["Threshold"]) == ("ALARM", "by hand", 5.0)
    cloudwatch.tag_resource(ResourceARN=updated["AlarmArn"], Tags=[{"Key": "stage", "Value": "x"}])
    cloudwatch.untag_resource(ResourceARN=updated["AlarmArn"], TagKeys=["team"])
    tags = cloudwatch.list_tags_for_resource(ResourceARN=updated["AlarmArn"])["Tags"]
    assert tags == [{"Key": "stage", "Value": "x"}]


def test_a_state_that_was_set_by_hand_goes_when_the_metric_says_otherwise(shared_local: Local) -> None:
    put(shared_local, "by-hand", TreatMissingData="notBreaching", MetricName="Nothing")

    shared_local.client("cloudwatch").set_alarm_state(
        AlarmName="by-hand", StateValue="ALARM", StateReason="a rehearsal"
    )

    assert described(shared_local, "by-hand")["StateValue"] == "ALARM"
    becomes(shared_local, "by-hand", "OK")


def test_actions_are_for_who_wants_them(shared_local: Local) -> None:
    cloudwatch = shared_local.client("cloudwatch")
    missing = shared_local.client("sns").create_topic(Name="gone")["TopicArn"]
    shared_local.client("sns").delete_topic(TopicArn=missing)
    put(shared_local, "silent", AlarmActions=[missing], ActionsEnabled=False)
    put(shared_local, "failing", AlarmActions=[missing])

    for name in ("silent", "failing"):
        cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a rehearsal")

    (failed,) = wait_for(
        lambda: cloudwatch.describe_alarm_history(AlarmName="failing", HistoryItemType="Action")[
            "AlarmHistoryItems"
        ]
    )
    assert failed["HistorySummary"] == f"Failed to execute action {missing}"
    assert (
        cloudwatch.describe_alarm_history(AlarmName="silent", HistoryItemType="Action")["AlarmHistoryItems"]
        == []
    )
    cloudwatch.enable_alarm_actions(AlarmNames=["silent"])
    assert described(shared_local, "silent")["ActionsEnabled"] is True


def test_alarms_and_their_states_outlive_a_kill(local: Local) -> None:
    put(local, "errors", TreatMissingData="ignore")
    local.client("cloudwatch").set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="before")

    local.kill()
    local.start()

    assert described(local, "errors")["StateReason"] == "before"
    for _ in range(3):
        local.client("cloudwatch").put_metric_data(
            Namespace="Shop", MetricData=[{"MetricName": "Errors", "Value": 0.5}]
        )
    becomes(local, "errors", "OK")


def test_alarms_are_listed_by_name_state_action_and_metric(shared_local: Local) -> None:
    cloudwatch = shared_local.client("cloudwatch")
    for name in ("listed-a", "listed-b", "listed-c"):
        put(shared_local, name, MetricName="Listed", AlarmActions=["arn:aws:sns:us-east-1:111111111111:x"])
    cloudwatch.set_alarm_state(AlarmName="listed-b", StateValue="OK", StateReason="x")

    def names(**given: Any) -> list[str]:
        return [alarm["AlarmName"] for alarm in cloudwatch.describe_alarms(**given)["MetricAlarms"]]

    pages = cloudwatch.get_paginator("describe_alarms").paginate(
        AlarmNamePrefix="listed-", PaginationConfig={"PageSize": 2}
    )
    assert [len(page["MetricAlarms"]) for page in pages] == [2, 1]
    assert names(AlarmNamePrefix="listed-", StateValue="OK") == ["listed-b"]
    assert names(AlarmNames=["listed-c", "none"]) == ["listed-c"]
    assert names(ActionPrefix="arn:aws:sns:us-east-1:111111111111:x") == ["listed-a", "listed-b", "listed-c"]
    of_metric = cloudwatch.describe_alarms_for_metric(MetricName="Listed", Namespace="Shop", Statistic="Sum")
    assert len(of_metric["MetricAlarms"]) == 3
    cloudwatch.delete_alarms(AlarmNames=["listed-a", "listed-b"])
    assert names(AlarmNamePrefix="listed-") == ["listed-c"]


@pytest.mark.parametrize(
    ("members", "code", "message"),
    [
        ({"Period": 45}, "ValidationError", "Period 45 should be 10, 20, 30, or a multiple of 60"),
        ({"EvaluationPeriods": 9_000}, "ValidationError", "more than a day"),
        ({"DatapointsToAlarm": 2}, "ValidationError", "DatapointsToAlarm 2 should be at most"),
        ({"TreatMissingData": "maybe"}, "ValidationError", "Option maybe is not supported"),
        ({"ExtendedStatistic": "p95"}, "InvalidParameterCombination", "Exactly one of Statistic"),
        (
            {"Statistic": None, "ExtendedStatistic": "tm90"},
            "InvalidParameterValue",
            "The value tm90 for parameter ExtendedStatistic",
        ),
        ({"Threshold": None}, "MissingParameter", "Threshold is required"),
        ({"ComparisonOperator": "LessThanLowerThreshold"}, "InvalidParameterValue", "anomaly detection"),
        ({"AlarmActions": ["arn:aws:automate:us-east-1:ec2:stop"]}, "ValidationError", "Invalid arn syntax"),
        (
            {"Metrics": [{"Id": "a", "Expression": "m1 / m2"}]},
            "InvalidParameterValue",
            "Metrics is not supported by the local runtime",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    shared_local: Local, members: dict[str, Any], code: str, message: str
) -> None:
    given = {name: value for name, value in (ERRORS | members).items() if value is not None}

    with pytest.raises(ClientError, match=message) as refused:
        shared_local.client("cloudwatch").put_metric_alarm(AlarmName="refused", **given)

    assert refused.value.response["Error"]["Code"] == code
    with pytest.raises(ClientError, match="Alarm refused does not exist"):
        shared_local.client("cloudwatch").set_alarm_state(
            AlarmName="refused", StateValue="OK", StateReason="x"
        )

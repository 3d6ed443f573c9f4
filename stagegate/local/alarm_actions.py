"""What an alarm tells when its state changes: EventBridge's detail, a topic's message, a function's event.

The shapes are those of the CloudWatch User Guide: "Alarm events and EventBridge", "Invoke a Lambda function
from an alarm", and the JSON that a topic's subscribers get.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from stagegate.local.alarm_evaluation import moment, statistic_of
from stagegate.local.service import Runtime

_OF_STATE = {"ALARM": "AlarmActions", "OK": "OKActions", "INSUFFICIENT_DATA": "InsufficientDataActions"}

Document = dict[str, Any]


def of_state(alarm: Mapping[str, Any]) -> list[str]:
    """The ARNs that are told of the state that the alarm has now."""
    return list(alarm[_OF_STATE[alarm["StateValue"]]])


def event_detail(alarm: Mapping[str, Any], *, before: Mapping[str, Any]) -> Document:
    return {
        "alarmName": alarm["AlarmName"],
        "state": _state(alarm),
        "previousState": _state(before),
        "configuration": {
            **({"description": alarm["AlarmDescription"]} if "AlarmDescription" in alarm else {}),
            "metrics": [
                {
                    "id": "m1",
                    "metricStat": {
                        "metric": {
                            "namespace": alarm["Namespace"],
                            "name": alarm["MetricName"],
                            "dimensions": {given["Name"]: given["Value"] for given in alarm["Dimensions"]},
                        },
                        "period": alarm["Period"],
                        "stat": statistic_of(alarm),
                    },
                    "returnData": True,
                }
            ],
        },
    }


async def perform(
    runtime: Runtime, target: str, *, alarm: Mapping[str, Any], before: Mapping[str, Any]
) -> None:
    """Tell a topic or a function. Raises AWSError."""
    if ":lambda:" in target:
        event = {
            "source": "aws.cloudwatch",
            "alarmArn": alarm["AlarmArn"],
            "accountId": runtime.account_id,
            "time": _time(alarm["StateUpdatedTimestamp"]),
            "region": runtime.region,
            "alarmData": event_detail(alarm, before=before),
        }
        members = {"FunctionName": target, "InvocationType": "Event", "Payload": json.dumps(event).encode()}
        await runtime.aws("lambda", "Invoke", members)
        return
    subject = f'{alarm["StateValue"]}: "{alarm["AlarmName"]}" in {runtime.region}'
    message = json.dumps(_message(runtime, alarm, before))
    await runtime.aws("sns", "Publish", {"TopicArn": target, "Subject": subject[:100], "Message": message})


def _message(runtime: Runtime, alarm: Mapping[str, Any], before: Mapping[str, Any]) -> Document:
    return {
        "AlarmName": alarm["AlarmName"],
        "AlarmDescription": alarm.get("AlarmDescription"),
        "AWSAccountId": runtime.account_id,
        "AlarmConfigurationUpdatedTimestamp": _time(alarm["AlarmConfigurationUpdatedTimestamp"]),
        "NewStateValue": alarm["StateValue"],
        "NewStateReason": alarm["StateReason"],
        "StateChangeTime": _time(alarm["StateUpdatedTimestamp"]),
        "Region": runtime.region,
        "AlarmArn": alarm["AlarmArn"],
        "OldStateValue": before["StateValue"],
        "OKActions": alarm["OKActions"],
        "AlarmActions": alarm["AlarmActions"],
        "InsufficientDataActions": alarm["InsufficientDataActions"],
        "Trigger": {
            "MetricName": alarm["MetricName"],
            "Namespace": alarm["Namespace"],
            "StatisticType": "ExtendedStatistic" if "ExtendedStatistic" in alarm else "Statistic",
            "ExtendedStatistic" if "ExtendedStatistic" in alarm else "Statistic": statistic_of(alarm),
            "Unit": alarm.get("Unit"),
            "Dimensions": [{"value": given["Value"], "name": given["Name"]} for given in alarm["Dimensions"]],
            "Period": alarm["Period"],
            "EvaluationPeriods": alarm["EvaluationPeriods"],
            "DatapointsToAlarm": alarm.get("DatapointsToAlarm"),
            "ComparisonOperator": alarm["ComparisonOperator"],
            "Threshold": alarm["Threshold"],
            "TreatMissingData": alarm.get("TreatMissingData", "missing"),
            "EvaluateLowSampleCountPercentile": alarm.get("EvaluateLowSampleCountPercentile", ""),
        },
    }


def _state(alarm: Mapping[str, Any]) -> Document:
    return {
        "value": alarm["StateValue"],
        "reason": alarm["StateReason"],
        **({"reasonData": alarm["StateReasonData"]} if "StateReasonData" in alarm else {}),
        "timestamp": _time(alarm["StateUpdatedTimestamp"]),
    }


def _time(when: datetime) -> str:
    return moment(when.timestamp())

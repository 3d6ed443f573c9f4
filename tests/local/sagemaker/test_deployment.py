from typing import Any

import pytest

from stagegate.local.sagemaker.deployment import BlueGreen, blue_green
from stagegate.local.service import AWSError


def routing(kind: str, **members: Any) -> dict[str, Any]:
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {"Type": kind, "WaitIntervalInSeconds": 60, **members}
        }
    }


def rolling(size: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"RollingUpdatePolicy": {"MaximumBatchSize": size, "WaitIntervalInSeconds": 60, **members}}


def percent(value: int) -> dict[str, Any]:
    return {"Type": "CAPACITY_PERCENT", "Value": value}


def test_without_a_config_all_traffic_moves_at_once() -> None:
    assert blue_green(None, instances=1) == BlueGreen()


def test_all_at_once_waits_and_watches_before_the_old_fleet_ends() -> None:
    config = {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 300},
            "TerminationWaitInSeconds": 30,
            "MaximumExecutionTimeoutInSeconds": 3600,
        },
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}, {"AlarmName": "latency"}]},
    }

    assert blue_green(config, instances=2) == BlueGreen(
        shares=[1.0],
        wait_seconds=300,
        termination_seconds=30,
        maximum_seconds=3600,
        alarms=["errors", "latency"],
    )


def test_a_canary_is_a_share_and_then_all() -> None:
    assert blue_green(routing("CANARY", CanarySize=percent(10)), instances=1).shares == [0.1, 1.0]
    one_of_four = {"Type": "INSTANCE_COUNT", "Value": 1}
    assert blue_green(routing("CANARY", CanarySize=one_of_four), instances=4).shares == [0.25, 1.0]


def test_linear_steps_end_with_all() -> None:
    assert blue_green(routing("LINEAR", LinearStepSize=percent(25)), instances=1).shares == [
        0.25,
        0.5,
        0.75,
        1.0,
    ]
    assert blue_green(routing("LINEAR", LinearStepSize=percent(40)), instances=1).shares == [0.4, 0.8, 1.0]


def test_a_rolling_update_goes_batch_by_batch_watched_by_the_alarms() -> None:
    config = {
        **rolling(
            {"Type": "INSTANCE_COUNT", "Value": 2},
            MaximumExecutionTimeoutInSeconds=900,
            RollbackMaximumBatchSize=percent(100),
        ),
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]},
    }

    assert blue_green(config, instances=5) == BlueGreen(
        shares=[0.4, 0.8, 1.0], wait_seconds=60, maximum_seconds=900, alarms=["errors"]
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (routing("CANARY"), "CanarySize is required"),
        (routing("CANARY", CanarySize=percent(60)), "at most 50%"),
        (rolling({"Type": "INSTANCE_COUNT", "Value": 1}), "between 5% and 50%.*100% was given"),
        (rolling(percent(4)), "between 5% and 50%"),
        ({**rolling(percent(50)), **routing("ALL_AT_ONCE")}, "Only one of BlueGreenUpdatePolicy and Rolling"),
    ],
    ids=["missing", "large", "large-batch", "small-batch", "both"],
)
def test_a_config_that_cannot_be_followed_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(AWSError, match=message):
        blue_green(config, instances=1)

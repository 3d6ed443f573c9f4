"""What would change is planned and shown, and discarded where it is not wanted."""

from pathlib import Path
from typing import Any

import pytest

from stagegate.local.service import AWSError
from tests.workflows.releases import (
    ALWAYS,
    DONE,
    NOTHING_TO_DO,
    PRODUCTION,
    STAGING,
    UNDER_WAY,
    asked,
    deploy,
)
from tests.workflows.simulation import ALARMS, REJECTED, Cloud, absent, stacks


async def test_nothing_to_update_is_a_success(tmp_path: Path) -> None:
    cloud = Cloud(answers={"DescribeChangeSet": [NOTHING_TO_DO, NOTHING_TO_DO]})

    ended = await deploy(tmp_path, cloud)

    assert ended.status == "SUCCEEDED"
    assert "StagingDeploying" not in ended.states
    assert cloud.of("ExecuteChangeSet") == []
    assert [request["ChangeSetName"] for request in cloud.of("DeleteChangeSet")] == [STAGING, PRODUCTION]
    assert asked(cloud)["Changes"] == "none: it is deployed already"


async def test_what_would_change_in_production_is_in_the_execution_and_in_the_mail(tmp_path: Path) -> None:
    cloud = Cloud(answers={"DescribeChangeSet": [{}, {"Status": "CREATE_IN_PROGRESS"}, {}]})

    ended = await deploy(tmp_path, cloud)

    assert ended.status == "SUCCEEDED"
    assert ended.states.count("ProductionPlanning") == 1
    assert asked(cloud)["Changes"] == (
        "added: Policy; changed: Endpoint (EndpointConfigName); replaced: Model (PrimaryContainer); "
        "replaced if need be: EndpointConfig (ProductionVariants)"
    )
    assert [request["ChangeSetName"] for request in cloud.of("ExecuteChangeSet")] == [STAGING, PRODUCTION]


async def test_a_change_set_that_cloudformation_refuses_changes_nothing(tmp_path: Path) -> None:
    refused = {"Status": "FAILED", "StatusReason": "Transform failed.", "Changes": []}

    ended = await deploy(tmp_path, Cloud(answers={"DescribeChangeSet": [refused]}))

    assert (ended.error, ended.cause) == (
        "StagingDeploymentFailed",
        "CloudFormation made no change set for the staging stack: Transform failed. "
        "Production was not touched.",
    )


async def test_a_stack_that_was_never_whole_is_made_anew(tmp_path: Path) -> None:
    answers = stacks("ROLLBACK_COMPLETE", "DELETE_IN_PROGRESS", absent("staging"), "CREATE_IN_PROGRESS")
    cloud = Cloud(answers={"DescribeStacks": [*answers, *stacks("CREATE_COMPLETE", DONE, DONE)]})

    ended = await deploy(tmp_path, cloud)

    assert ended.status == "SUCCEEDED"
    assert [request["StackName"] for request in cloud.of("DeleteStack")] == ["stagegate-staging"]
    assert [request["ChangeSetType"] for request in cloud.of("CreateChangeSet")] == ["CREATE", "UPDATE"]


async def test_a_stack_that_is_under_way_is_waited_for(tmp_path: Path) -> None:
    cloud = Cloud(answers={"DescribeStacks": stacks(UNDER_WAY, UNDER_WAY, DONE, UNDER_WAY, DONE, DONE, DONE)})

    ended = await deploy(tmp_path, cloud)

    assert ended.status == "SUCCEEDED"
    assert ended.states.count("StagingBusy") == 2
    assert ended.states.count("WatchStaging") == 2


async def test_a_rejected_first_release_leaves_no_stack_behind(tmp_path: Path) -> None:
    cloud = Cloud(answers={"DescribeStacks": stacks(DONE, DONE, absent("x"))}, decisions=[REJECTED])

    ended = await deploy(tmp_path, cloud)

    assert ended.error == "ProductionRejected"
    assert [request["StackName"] for request in cloud.of("DeleteStack")] == ["arn:aws:stagegate-production"]


async def test_a_plan_that_cannot_be_discarded_hides_no_rejection(tmp_path: Path) -> None:
    cloud = Cloud(decisions=[REJECTED], answers={"DeleteChangeSet": AWSError("AccessDenied", "no")})

    assert (await deploy(tmp_path, cloud)).error == "ProductionRejected"


GONE = AWSError("InvalidChangeSetStatus", "ChangeSet [x] cannot be executed: [OBSOLETE]")


@pytest.mark.parametrize(
    ("answers", "error", "cause"),
    [
        ({"ExecuteChangeSet": [{}, *[GONE] * 6]}, "ProductionDeploymentFailed", "OBSOLETE"),
        ({"DescribeChangeSet": [{}, *ALWAYS]}, "ProductionDeploymentFailed", "not allowed"),
        (
            {"DescribeChangeSet": [{}, {"Status": "FAILED", "StatusReason": "Transform failed."}]},
            "ProductionDeploymentFailed",
            "Transform failed.",
        ),
        (
            {"DescribeAlarms": {"MetricAlarms": [{"AlarmName": ALARMS[0], "StateValue": "ALARM"}]}},
            "ProductionAlarmsRaised",
            ALARMS[0],
        ),
        ({"DescribeAlarms": {"MetricAlarms": []}}, "ProductionAlarmsMissing", "only 0 are there"),
        ({"DescribeStackResources": [{}, *ALWAYS]}, "ProductionDeploymentFailed", "not allowed"),
    ],
)
async def test_what_was_planned_and_is_not_deployed_is_discarded(
    tmp_path: Path, answers: dict[str, Any], error: str, cause: str
) -> None:
    cloud = Cloud(answers=answers)

    ended = await deploy(tmp_path, cloud)

    assert (ended.status, ended.error) == ("FAILED", error)
    assert cause in ended.cause and "Production was not changed." in ended.cause
    assert [request["ChangeSetName"] for request in cloud.of("DeleteChangeSet")] == [PRODUCTION]
    assert cloud.of("DeleteStack") == []


@pytest.mark.parametrize("stage", ["staging", "production"])
async def test_a_stack_that_was_there_only_for_a_plan_goes_with_it(tmp_path: Path, stage: str) -> None:
    statuses = [absent("x")] if stage == "staging" else [DONE, DONE, absent("x")]
    refused: list[Any] = [*ALWAYS] if stage == "staging" else [{}, *ALWAYS]
    cloud = Cloud(answers={"DescribeStacks": stacks(*statuses), "ExecuteChangeSet": refused})

    ended = await deploy(tmp_path, cloud)

    assert ended.error == f"{stage.capitalize()}DeploymentFailed"
    assert [request["StackName"] for request in cloud.of("DeleteStack")] == [f"arn:aws:stagegate-{stage}"]

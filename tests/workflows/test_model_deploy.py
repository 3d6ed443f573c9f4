"""model-deploy, every way through it, on the real engine."""

import json
from pathlib import Path
from typing import Any

import pytest

from stagegate.local.service import AWSError
from tests.workflows.conftest import ROOT
from tests.workflows.releases import (
    ALWAYS,
    DONE,
    EVENTS,
    FAILED_SUMMARY,
    PRODUCTION,
    STAGING,
    deploy,
    values_of,
)
from tests.workflows.simulation import ALARMS, PACKAGE, REJECTED, Cloud, absent, stacks

NO_REPORT = AWSError("NoSuchKey", "The specified key does not exist.", status=404)

ROLE = "arn:aws:iam::111111111111:role"


async def test_an_approved_package_goes_to_staging_and_after_a_yes_to_production(tmp_path: Path) -> None:
    cloud = Cloud(answers={"DescribeStacks": stacks(absent("staging"), DONE, absent("production"), DONE)})

    ended = await deploy(tmp_path, cloud)

    assert (ended.status, ended.cause) == ("SUCCEEDED", "")
    assert ended.states == [
        *("Claim", "DescribePackage", "ApprovedOnly", "Given", "Locate", "Settings"),
        *("IsApprovedByUs", "CheckModel", "CheckModelMatches"),
        *("StagingParameters", "FindStaging", "StagingAbsent", "NoStagingYet", "PlanNewStaging"),
        *("ShowStagingChanges", "IsStagingPlanned", "HasStagingChanges", "DeployStaging"),
        *("StagingDeploying", "WatchStaging", "StagingDeployed"),
        *("StagingDeployment", "StagingServing", "StagingAsked", "IsStagingServed"),
        *("TestStaging", "ReadStagingReport"),
        *("ProductionParameters", "FindProduction", "ProductionAbsent", "NoProductionYet"),
        *("PlanNewProduction", "ShowProductionChanges", "IsProductionPlanned"),
        *("RequestProductionApprovalRules", "RequestProductionApprovalRound"),
        *("IsRequestProductionApprovalOpen", "RequestProductionApproval"),
        *("RecordDecision", "Decision", "CheckRelease", "CheckReleaseMatches"),
        *("HasProductionChanges", "DeployProduction"),
        *("ProductionDeploying", "WatchProduction", "ProductionDeployed"),
        *("ProductionDeployment", "ProductionServing", "ProductionAsked", "IsProductionServed"),
        *("TestProduction", "ReadProductionReport", "IsStagingKept", "Released"),
    ]


async def test_production_gets_the_template_and_the_package_that_staging_had(tmp_path: Path) -> None:
    cloud = Cloud(answers={"DescribeStacks": stacks(absent("staging"), DONE, DONE, DONE)})

    await deploy(tmp_path, cloud)

    staging, production = cloud.of("CreateChangeSet")
    assert (staging["ChangeSetType"], production["ChangeSetType"]) == ("CREATE", "UPDATE")
    assert staging["OnStackFailure"] == "DELETE"
    assert staging["StackName"] == "stagegate-staging"
    assert production["StackName"] == "stagegate-production"
    assert staging["TemplateURL"] == production["TemplateURL"]
    assert staging["TemplateURL"].endswith("/code/0123456789abcdef/deploy/endpoint.yaml")
    for stage, request in (("staging", staging), ("production", production)):
        given = json.loads((ROOT / "deploy" / f"{stage}.json").read_text())
        assert values_of(request["Parameters"]) == given["Parameters"] | {
            "Project": "stagegate",
            "ModelPackageName": PACKAGE,
            "ExecutionRoleArn": f"{ROLE}/the-{stage.capitalize()}EndpointRoleArn",
            "DataBucket": "data",
            "Code": "0123456789abcdef",
            "VpcSubnetIds": f"the-{stage.capitalize()}SubnetIds",
            "VpcSecurityGroupIds": f"the-{stage.capitalize()}SecurityGroupIds",
            "KmsKeyArn": "the-KmsKeyArn",
        }


async def test_each_stage_is_reached_by_the_role_of_its_account(tmp_path: Path) -> None:
    cloud = Cloud(answers={"DescribeStacks": stacks(absent("staging"), DONE, DONE, DONE)})

    await deploy(tmp_path, cloud)

    roles = [
        request.get("RoleArn") or request.get("RoleARN")
        for operation, request in cloud.calls
        if operation in ("AssumeRole", "CreateChangeSet")
    ]
    asked = cloud.of("AssumeRole")
    changes = [at for at, role in enumerate(roles) if str(role).endswith("StackRoleArn")]
    assert [(roles[at - 1], roles[at]) for at in changes] == [
        (f"{ROLE}/the-StagingRoleArn", f"{ROLE}/the-StagingStackRoleArn"),
        (f"{ROLE}/the-ProductionRoleArn", f"{ROLE}/the-ProductionStackRoleArn"),
    ]
    assert {request["RoleArn"] for request in asked} == {
        f"{ROLE}/the-StagingRoleArn",
        f"{ROLE}/the-ProductionRoleArn",
    }
    assert {request["ExternalId"] for request in asked} == {
        "arn:aws:states:us-east-1:111111111111:stateMachine:model-deploy"
    }


@pytest.mark.parametrize("code", ["ThrottlingException", "AccountLimitExceededException"])
async def test_a_build_that_codebuild_has_no_room_for_is_started_again(tmp_path: Path, code: str) -> None:
    cloud = Cloud(answers={"StartBuild": [AWSError(code, "Rate exceeded")]})

    ended = await deploy(tmp_path, cloud)

    assert ended.status == "SUCCEEDED"
    assert len(cloud.of("StartBuild")) == 3


async def test_the_tests_are_told_what_to_test(tmp_path: Path) -> None:
    cloud = Cloud()

    await deploy(tmp_path, cloud)

    staging, production = cloud.of("StartBuild")
    assert staging["sourceLocationOverride"] == "assets/code/0123456789abcdef/deploy.zip"
    environment = {entry["name"]: entry["value"] for entry in production["environmentVariablesOverride"]}
    assert environment == {
        "STAGE": "production",
        "ENDPOINT_NAME": "stagegate-production",
        "MODEL_PACKAGE_ARN": PACKAGE,
        "TEST_DATA_URI": "s3://data/runs/r-20261123-071500-1a2b/preprocessed/test",
        "PREDICTIONS_URI": "s3://data/runs/r-20261123-071500-1a2b/evaluation/predictions.npz",
        "REGISTERED_ACCURACY": "0.87",
    }
    assert production["artifactsOverride"]["name"] == "production"
    assert production["artifactsOverride"]["path"].startswith("runs/r-20261123-071500-1a2b/tests/")


async def test_what_is_deployed_is_checked_against_what_was_approved(tmp_path: Path) -> None:
    cloud = Cloud()

    await deploy(tmp_path, cloud)

    model, request, release = (json.loads(call["Payload"]) for call in cloud.of("Invoke"))
    template = "s3://assets/code/0123456789abcdef/deploy/endpoint.yaml"
    files = {name: value for name, value in release.items() if name.endswith("Uri")}
    assert model == {
        "Action": "check",
        "ApprovalId": "5f0c",
        "ModelPackageArn": PACKAGE,
        "TemplateUri": template,
    }
    assert (request["Action"], request["Kind"]) == ("ask", "production")
    assert files == {name: value for name, value in request.items() if name.endswith("Uri")}
    assert set(files) == {"TemplateUri", "ParametersUri", "TestReportUri"}
    assert files["TemplateUri"] == template
    assert files["TestReportUri"].endswith("/staging/summary.json")
    assert (release["Action"], release["ApprovalId"]) == ("check", "5f0c")
    assert cloud.of("UpdateModelPackage") == [
        {"ModelPackageArn": PACKAGE, "CustomerMetadataProperties": {"ModelApprovalId": "5f0c"}}
    ]


DIFFERS = {"matches": False, "differences": "The artifact has another SHA-256."}


@pytest.mark.parametrize(
    ("action", "name", "deployed", "consequence"),
    [
        (1, "CheckModelMismatch", 0, "Nothing was deployed."),
        (3, "CheckReleaseMismatch", 1, "Production was not touched."),
    ],
)
async def test_something_else_than_was_approved_is_not_deployed(
    tmp_path: Path, action: int, name: str, deployed: int, consequence: str
) -> None:
    answers: list[Any] = [{}] * (action - 1)
    cloud = Cloud(answers={"Invoke": [*answers, {"Payload": json.dumps(DIFFERS).encode()}]})

    ended = await deploy(tmp_path, cloud)

    assert (ended.error, name in ended.states) == ("ApprovalMismatch", True)
    assert ended.cause == (f"This is not what was approved: The artifact has another SHA-256. {consequence}")
    assert len(cloud.of("StartBuild")) == deployed


async def test_a_package_that_was_approved_elsewhere_is_asked_about_before_production(tmp_path: Path) -> None:
    properties = dict(Cloud()._DescribeModelPackage({})["CustomerMetadataProperties"])
    del properties["ModelApprovalId"]
    cloud = Cloud(answers={"DescribeModelPackage": {"CustomerMetadataProperties": properties}})

    ended = await deploy(tmp_path, cloud)

    assert ended.status == "SUCCEEDED"
    assert "CheckModel" not in ended.states
    assert "CheckRelease" in ended.states


async def test_staging_is_taken_away_after_the_release_where_the_input_says_so(tmp_path: Path) -> None:
    gone = absent("staging")
    cloud = Cloud(answers={"DescribeStacks": stacks(DONE, DONE, DONE, DONE, "DELETE_IN_PROGRESS", gone)})

    ended = await deploy(tmp_path, cloud, RemoveStaging=True)

    assert (ended.status, ended.states[-1]) == ("SUCCEEDED", "Released")
    assert [request["StackName"] for request in cloud.of("DeleteStack")] == ["stagegate-staging"]


async def test_staging_that_stays_is_told(tmp_path: Path) -> None:
    cloud = Cloud(answers={"DescribeStacks": stacks(DONE, DONE, DONE, DONE, "DELETE_FAILED")})

    ended = await deploy(tmp_path, cloud, RemoveStaging=True)

    assert (ended.error, ended.cause) == (
        "StagingNotRemoved",
        f"Production serves {PACKAGE}, which passed its tests; the staging stack could not be removed: "
        "CloudFormation: The staging stack ended as DELETE_FAILED.",
    )


async def test_a_package_that_is_not_approved_is_not_deployed(tmp_path: Path) -> None:
    cloud = Cloud(answers={"DescribeModelPackage": {"ModelApprovalStatus": "PendingManualApproval"}})

    ended = await deploy(tmp_path, cloud)

    assert (ended.error, ended.cause) == (
        "PackageNotApproved",
        f"Model package {PACKAGE} is PendingManualApproval, and only an approved one is deployed. "
        "Nothing was deployed.",
    )


async def test_a_rejected_release_leaves_production_alone(tmp_path: Path) -> None:
    cloud = Cloud(decisions=[REJECTED])

    ended = await deploy(tmp_path, cloud)

    assert (ended.error, ended.cause) == (
        "ProductionRejected",
        "anna@example.com rejected the release to production (too many streets in the sea). "
        "Production was not touched; "
        f"staging serves {PACKAGE}.",
    )
    assert len(cloud.of("StartBuild")) == 1
    assert [request["ChangeSetName"] for request in cloud.of("DeleteChangeSet")] == [PRODUCTION]


async def test_silence_leaves_production_alone(tmp_path: Path) -> None:
    ended = await deploy(tmp_path, Cloud(decisions=[None]), Approval={"TimeoutSeconds": 1})

    assert (ended.error, ended.cause) == (
        "ApprovalTimedOut",
        f"Nobody decided within 1 seconds. Production was not touched; staging serves {PACKAGE}.",
    )


REASONS = "Endpoint: no capacity"


@pytest.mark.parametrize(
    ("statuses", "error", "cause"),
    [
        (
            [DONE, "UPDATE_ROLLBACK_COMPLETE"],
            "StagingDeploymentFailed",
            f"The staging stack ended as UPDATE_ROLLBACK_COMPLETE: {REASONS} Production was not touched.",
        ),
        (
            [DONE, DONE, DONE, "UPDATE_ROLLBACK_COMPLETE"],
            "ProductionDeploymentFailed",
            f"The production stack ended as UPDATE_ROLLBACK_COMPLETE: {REASONS} "
            "CloudFormation put back what production served before.",
        ),
        (
            [DONE, DONE, absent("production"), "DELETE_COMPLETE"],
            "ProductionDeploymentFailed",
            f"The production stack ended as DELETE_COMPLETE: {REASONS} "
            "There was no production endpoint, and there is none.",
        ),
        (
            [DONE, DONE, DONE, "UPDATE_ROLLBACK_FAILED"],
            "ProductionDeploymentFailed",
            f"The production stack ended as UPDATE_ROLLBACK_FAILED: {REASONS} "
            "Production may be broken: look at its stack.",
        ),
    ],
)
async def test_a_stack_that_is_not_deployed_says_why_and_what_production_is(
    tmp_path: Path, statuses: list[Any], error: str, cause: str
) -> None:
    cloud = Cloud(answers={"DescribeStacks": stacks(*statuses), "DescribeStackEvents": EVENTS})

    ended = await deploy(tmp_path, cloud)

    assert (ended.status, ended.error, ended.cause) == ("FAILED", error, cause)


async def test_failed_tests_in_staging_leave_production_alone(tmp_path: Path) -> None:
    def content(request: dict[str, Any]) -> dict[str, Any]:
        return FAILED_SUMMARY if request["Key"].endswith("summary.json") else {}

    cloud = Cloud(answers={"Build": ["FAILED"], "GetObject": content})

    ended = await deploy(tmp_path, cloud)

    assert (ended.error, ended.cause) == (
        "StagingTestsFailed",
        "The endpoint tests of staging failed: 2 of 3 passed; test_latency: too slow. "
        "Production was not touched.",
    )


@pytest.mark.parametrize(
    ("serving", "found"),
    [
        ({"EndpointConfigName": "before"}, "is InService and serves before, where its stack asks for asked"),
        ({"EndpointStatus": "Failed"}, "is Failed and serves asked, where its stack asks for asked"),
    ],
)
async def test_an_endpoint_that_rolled_back_by_itself_is_no_success(
    tmp_path: Path, serving: dict[str, str], found: str
) -> None:
    staging = await deploy(tmp_path / "1", Cloud(answers={"DescribeEndpoint": [serving]}))
    production = await deploy(tmp_path / "2", Cloud(answers={"DescribeEndpoint": [{}, serving]}))

    said = f"{found}: SageMaker rolled the update back."
    assert (staging.error, staging.cause) == (
        "StagingNotServing",
        f"The staging endpoint {said} Production was not touched.",
    )
    assert production.error == "ProductionNotServing"
    assert production.cause == (
        f"The production endpoint {said} Production serves before again, which passed its tests."
    )


@pytest.mark.parametrize(
    ("alarms", "error", "cause"),
    [
        (
            [{"AlarmName": ALARMS[0], "StateValue": "ALARM"}, {"AlarmName": ALARMS[1], "StateValue": "OK"}],
            "ProductionAlarmsRaised",
            f'The alarms ["{ALARMS[0]}"] are raised, and would roll back any update. '
            "Production was not changed.",
        ),
        (
            [{"AlarmName": ALARMS[0], "StateValue": "OK"}],
            "ProductionAlarmsMissing",
            f'Of the alarms ["{ALARMS[0]}","{ALARMS[1]}"] only 1 are there: an update would not be watched. '
            "Production was not changed.",
        ),
    ],
)
async def test_production_is_not_changed_unwatched(
    tmp_path: Path, alarms: list[dict[str, str]], error: str, cause: str
) -> None:
    cloud = Cloud(answers={"DescribeAlarms": {"MetricAlarms": alarms}})

    ended = await deploy(tmp_path, cloud)

    assert (ended.error, ended.cause) == (error, cause)
    assert [request["ChangeSetName"] for request in cloud.of("ExecuteChangeSet")] == [STAGING]


@pytest.mark.parametrize(
    ("builds", "stage"), [(["FAILED"], "staging"), (["SUCCEEDED", "FAULT"], "production")]
)
async def test_tests_without_a_report_are_no_success(tmp_path: Path, builds: list[str], stage: str) -> None:
    def content(request: dict[str, Any]) -> Any:
        return NO_REPORT if request["Key"].endswith(f"{stage}/summary.json") else {}

    ended = await deploy(tmp_path, Cloud(answers={"Build": builds, "GetObject": content}))

    assert ended.error == f"{stage.capitalize()}TestsBroken"
    assert ended.cause.startswith(f"The endpoint tests of {stage} left no report: States.TaskFailed: ")


async def test_a_passed_build_without_a_report_is_no_success(tmp_path: Path) -> None:
    def content(request: dict[str, Any]) -> Any:
        return NO_REPORT if request["Key"].endswith("summary.json") else {}

    ended = await deploy(tmp_path, Cloud(answers={"GetObject": content}))

    assert ended.error == "StagingTestsBroken"


BROKEN = {"FunctionError": "Unhandled", "Payload": b'{"errorType": "E", "errorMessage": "not allowed"}'}
NOT_SHARED = AWSError("ResourceNotFoundException", "not allowed")


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({"DescribeModelPackage": [*ALWAYS]}, "PackageUnreadable"),
        ({"GetObject": [*ALWAYS]}, "StagingDeploymentFailed"),
        ({"DescribeStacks": [*ALWAYS]}, "StagingDeploymentFailed"),
        ({"DescribeStacks": stacks(absent("x")), "CreateChangeSet": [*ALWAYS]}, "StagingDeploymentFailed"),
        ({"CreateChangeSet": [*ALWAYS]}, "StagingDeploymentFailed"),
        ({"DescribeChangeSet": [*ALWAYS]}, "StagingDeploymentFailed"),
        ({"ExecuteChangeSet": [*ALWAYS]}, "StagingDeploymentFailed"),
        ({"CreateChangeSet": [{}, *ALWAYS]}, "ProductionDeploymentFailed"),
        ({"ExecuteChangeSet": [{}, *ALWAYS]}, "ProductionDeploymentFailed"),
        ({"DescribeStacks": stacks("ROLLBACK_FAILED"), "DeleteStack": [*ALWAYS]}, "StagingDeploymentFailed"),
        ({"DescribeStacks": stacks(DONE, *ALWAYS)}, "StagingDeploymentUnknown"),
        (
            {"DescribeStacks": stacks(DONE, "UPDATE_ROLLBACK_FAILED"), "DescribeStackEvents": [*ALWAYS]},
            "StagingDeploymentUnknown",
        ),
        ({"DescribeStacks": stacks(DONE, DONE, DONE, *ALWAYS)}, "ProductionDeploymentUnknown"),
        ({"StartBuild": [NOT_SHARED], "GetObject": [{}, *ALWAYS]}, "StagingTestsBroken"),
        ({"UpdateModelPackage": [*ALWAYS]}, "DecisionNotRecorded"),
        ({"Invoke": [BROKEN]}, "CheckModelFailed"),
        ({"Invoke": [{}, BROKEN]}, "RequestProductionApprovalFailed"),
        ({"Invoke": [{}, {}, BROKEN]}, "CheckReleaseFailed"),
    ],
)
async def test_a_service_that_refuses_ends_the_release_with_its_words(
    tmp_path: Path, answers: dict[str, Any], error: str
) -> None:
    cloud = Cloud(answers=answers, decisions=[None] if len(answers.get("Invoke", ())) == 2 else [])

    ended = await deploy(tmp_path, cloud)

    assert (ended.status, ended.error) == ("FAILED", error)
    assert "not allowed" in ended.cause

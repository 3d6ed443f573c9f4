"""model-deploy, every way through it, on the real engine."""

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from stagegate.local.service import AWSError
from tests.workflows.conftest import ROOT
from tests.workflows.simulation import (
    ALARMS,
    PACKAGE,
    REJECTED,
    Cloud,
    Ended,
    absent,
    execute,
    stack,
    stacks,
)

DONE, UNDER_WAY = "UPDATE_COMPLETE", "UPDATE_IN_PROGRESS"
NOTHING_TO_DO = AWSError("ValidationError", "No updates are to be performed.")
EVENTS = {
    "StackEvents": [
        {
            "StackId": "s",
            "EventId": "e",
            "StackName": "x",
            "Timestamp": "2026-11-23T08:00:00Z",
            "ResourceStatus": status,
            "ResourceStatusReason": reason,
        }
        for status, reason in [("UPDATE_FAILED", "no capacity"), ("UPDATE_COMPLETE", "fine")]
    ]
}
FAILED_SUMMARY = {"Body": json.dumps({"text": "2 of 3 passed; test_latency: too slow."}).encode()}
NO_REPORT = AWSError("NoSuchKey", "The specified key does not exist.", status=404)


async def deploy(folder: Path, cloud: Cloud, **given: object) -> Ended:
    return await execute(folder, "model-deploy", cloud, {"ModelPackageArn": PACKAGE} | given)


async def test_an_approved_package_goes_to_staging_and_after_a_yes_to_production(tmp_path: Path) -> None:
    cloud = Cloud(answers={"DescribeStacks": stacks(absent("staging"), DONE, absent("production"), DONE)})

    ended = await deploy(tmp_path, cloud)

    assert (ended.status, ended.cause) == ("SUCCEEDED", "")
    assert ended.states == [
        *("DescribePackage", "ApprovedOnly", "Locate", "Settings"),
        *("IsApprovedByUs", "CheckModel", "CheckModelMatches"),
        *("StagingParameters", "FindStaging", "StagingAbsent", "NoStagingYet", "CreateStaging"),
        *("StagingDeploying", "WatchStaging", "StagingDeployed"),
        *("StagingDeployment", "StagingServing", "StagingAsked", "IsStagingServed"),
        *("TestStaging", "ReadStagingReport"),
        *("RequestProductionApprovalRules", "RequestProductionApprovalRound"),
        *("IsRequestProductionApprovalOpen", "RequestProductionApproval"),
        *("RecordDecision", "Decision", "CheckRelease", "CheckReleaseMatches"),
        *("ProductionParameters", "FindProduction", "ProductionAbsent", "NoProductionYet"),
        *("CreateProduction", "ProductionDeploying", "WatchProduction", "ProductionDeployed"),
        *("ProductionDeployment", "ProductionServing", "ProductionAsked", "IsProductionServed"),
        *("TestProduction", "ReadProductionReport", "Released"),
    ]


async def test_production_gets_the_template_and_the_package_that_staging_had(tmp_path: Path) -> None:
    cloud = Cloud(answers={"DescribeStacks": stacks(absent("staging"), DONE, DONE, DONE)})

    await deploy(tmp_path, cloud)

    (staging,), (production,) = cloud.of("CreateStack"), cloud.of("UpdateStack")
    assert staging["StackName"] == "stagegate-staging"
    assert production["StackName"] == "stagegate-production"
    assert staging["TemplateURL"] == production["TemplateURL"]
    assert staging["TemplateURL"].endswith("/code/0123456789abcdef/deploy/endpoint.yaml")
    for stage, request in (("staging", staging), ("production", production)):
        given = json.loads((ROOT / "deploy" / f"{stage}.json").read_text())
        assert _values(request["Parameters"]) == _values(given) | {
            "Project": "stagegate",
            "ModelPackageName": PACKAGE,
            "ExecutionRoleArn": "the-EndpointRoleArn",
            "DataBucket": "data",
            "Code": "0123456789abcdef",
        }


def _values(parameters: list[dict[str, str]]) -> dict[str, str]:
    return {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in parameters}


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

    assert (ended.error, ended.states[-1]) == ("ApprovalMismatch", name)
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


async def test_nothing_to_update_is_a_success(tmp_path: Path) -> None:
    cloud = Cloud(answers={"UpdateStack": [NOTHING_TO_DO, NOTHING_TO_DO]})

    ended = await deploy(tmp_path, cloud)

    assert ended.status == "SUCCEEDED"
    assert "StagingDeploying" not in ended.states


async def test_a_stack_that_was_never_whole_is_made_anew(tmp_path: Path) -> None:
    answers = stacks("ROLLBACK_COMPLETE", "DELETE_IN_PROGRESS", absent("staging"), "CREATE_IN_PROGRESS")
    cloud = Cloud(answers={"DescribeStacks": [*answers, *stacks("CREATE_COMPLETE", DONE, DONE)]})

    ended = await deploy(tmp_path, cloud)

    assert ended.status == "SUCCEEDED"
    assert [request["StackName"] for request in cloud.of("DeleteStack")] == ["stagegate-staging"]
    assert [request["StackName"] for request in cloud.of("CreateStack")] == ["stagegate-staging"]


async def test_a_stack_that_is_under_way_is_waited_for(tmp_path: Path) -> None:
    cloud = Cloud(answers={"DescribeStacks": stacks(UNDER_WAY, UNDER_WAY, DONE, UNDER_WAY, DONE, DONE, DONE)})

    ended = await deploy(tmp_path, cloud)

    assert ended.status == "SUCCEEDED"
    assert ended.states.count("StagingBusy") == 2
    assert ended.states.count("WatchStaging") == 2


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


async def test_silence_leaves_production_alone(tmp_path: Path) -> None:
    ended = await deploy(tmp_path, Cloud(decisions=[None]), Approval={"TimeoutSeconds": 1})

    assert (ended.error, ended.cause) == (
        "ApprovalTimedOut",
        f"Nobody decided within 1 seconds. Production was not touched; staging serves {PACKAGE}.",
    )


REASONS = '{"NotCreated":[],"NotUpdated":["no capacity"]}'


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
            [DONE, DONE, absent("production"), "ROLLBACK_COMPLETE"],
            "ProductionDeploymentFailed",
            f"The production stack ended as ROLLBACK_COMPLETE: {REASONS} "
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


FAILED_TESTS = "The endpoint tests of production failed: 2 of 3 passed; test_latency: too slow."
LAST_PROPERTIES = {
    "RunId": "r-before",
    "PreprocessedUri": "s3://data/runs/r-before/preprocessed",
    "Accuracy": "0.81",
    "CodeUri": "s3://assets/code/fedcba9876543210",
}


def failing(**answers: Any) -> Cloud:
    """Production's tests fail; the package before has properties of its own."""

    def content(request: dict[str, Any]) -> dict[str, Any]:
        return FAILED_SUMMARY if request["Key"].endswith("production/summary.json") else {}

    def package(request: dict[str, Any]) -> dict[str, Any]:
        arn = request["ModelPackageName"]
        return (
            {} if arn == PACKAGE else {"ModelPackageArn": arn, "CustomerMetadataProperties": LAST_PROPERTIES}
        )

    given = {"Build": ["SUCCEEDED", "FAILED"], "GetObject": content, "DescribeModelPackage": package}
    return Cloud(answers=given | answers)


async def test_when_productions_tests_fail_what_it_served_before_is_brought_back_and_tested(
    tmp_path: Path,
) -> None:
    cloud = failing()

    ended = await deploy(tmp_path, cloud)

    assert (ended.status, ended.error) == ("FAILED", "ProductionTestsFailed")
    assert ended.cause == f"{FAILED_TESTS} Production serves arn:before again, which passed its tests."
    _, changed, restored = cloud.of("UpdateStack")
    assert changed["TemplateURL"].endswith("/code/0123456789abcdef/deploy/endpoint.yaml")
    assert restored["TemplateURL"].endswith("/code/fedcba9876543210/deploy/endpoint.yaml")
    assert restored["StackName"] == "stagegate-production"
    assert _values(restored["Parameters"]) == {
        "Stage": "x",
        "ModelPackageName": "arn:before",
        "Code": "fedcba9876543210",
    }
    tested = cloud.of("StartBuild")[-1]
    environment = {entry["name"]: entry["value"] for entry in tested["environmentVariablesOverride"]}
    assert environment == {
        "STAGE": "production",
        "ENDPOINT_NAME": "stagegate-production",
        "MODEL_PACKAGE_ARN": "arn:before",
        "TEST_DATA_URI": "s3://data/runs/r-before/preprocessed/test",
        "REGISTERED_ACCURACY": "0.81",
    }
    assert tested["artifactsOverride"]["name"] == "restored"
    assert tested["sourceLocationOverride"] == "assets/code/fedcba9876543210/deploy.zip"


async def test_a_first_release_that_fails_its_tests_is_taken_away(tmp_path: Path) -> None:
    gone = absent("production")
    cloud = failing(DescribeStacks=stacks(DONE, DONE, gone, DONE, "DELETE_IN_PROGRESS", gone))

    ended = await deploy(tmp_path, cloud)

    assert (ended.error, ended.states[-1]) == ("ProductionTestsFailed", "ProductionRemoved")
    assert ended.cause == (
        f"{FAILED_TESTS} There was no production endpoint before this release, and there is none."
    )
    assert [request["StackName"] for request in cloud.of("DeleteStack")] == ["stagegate-production"]


async def test_a_stack_that_never_was_whole_is_nothing_to_bring_back(tmp_path: Path) -> None:
    gone = absent("production")
    cloud = failing(DescribeStacks=stacks(DONE, DONE, "ROLLBACK_COMPLETE", gone, DONE, gone))

    ended = await deploy(tmp_path, cloud)

    assert ended.states[-1] == "ProductionRemoved"


async def test_the_package_that_production_served_already_is_not_brought_back(tmp_path: Path) -> None:
    same = {"Stacks": [stack(DONE, package=PACKAGE)]}
    cloud = failing(DescribeStacks=[*stacks(DONE), same], UpdateStack=[NOTHING_TO_DO, NOTHING_TO_DO])

    ended = await deploy(tmp_path, cloud)

    assert (ended.error, ended.states[-1]) == ("ProductionTestsFailed", "ProductionAsBefore")
    assert ended.cause.endswith(f"Production serves {PACKAGE}, which it served before this release.")


async def test_a_stack_without_a_code_is_brought_back_by_this_releases_template(tmp_path: Path) -> None:
    old = stack(DONE)
    del old["Parameters"][-1]
    cloud = failing(DescribeStacks=[*stacks(DONE, DONE), {"Stacks": [old]}])

    ended = await deploy(tmp_path, cloud)

    assert ended.states[-1] == "ProductionRestored"
    _, changed, restored = cloud.of("UpdateStack")
    assert restored["TemplateURL"] == changed["TemplateURL"]


LOST = "Production may be broken: look at its stack."


@pytest.mark.parametrize(
    ("answers", "end", "consequence"),
    [
        (
            {"UpdateStack": [{}, {}, AWSError("AccessDenied", "not allowed")]},
            "ProductionNotRestored",
            f"not allowed (Service: CloudFormation, Status Code: 400, Request ID: *) {LOST}",
        ),
        (
            {"DescribeStacks": stacks(DONE, DONE, DONE, DONE, UNDER_WAY, "UPDATE_ROLLBACK_COMPLETE")},
            "ProductionNotRestored",
            "It could not be brought back: CloudFormation: The production stack ended as "
            f"UPDATE_ROLLBACK_COMPLETE. {LOST}",
        ),
        (
            {"Build": ["SUCCEEDED", "FAILED", "FAILED"]},
            "RestoredNotProven",
            "Production was brought back to arn:before, which is not proven: The endpoint tests of "
            "production failed: 3 of 3 passed. Look at its stack.",
        ),
        (
            {
                "DescribeStacks": [*stacks(DONE, DONE, absent("x"), DONE)],
                "DeleteStack": [AWSError("No", "no")],
            },
            "ProductionNotRestored",
            LOST,
        ),
    ],
)
async def test_production_that_is_not_brought_back_is_said_to_be_lost(
    tmp_path: Path, answers: dict[str, Any], end: str, consequence: str
) -> None:
    ended = await deploy(tmp_path, failing(**answers))

    assert (ended.error, ended.states[-1]) == ("ProductionTestsFailed", end)
    assert ended.cause.startswith(FAILED_TESTS)
    assert fnmatch(ended.cause, f"*{consequence}")


async def test_a_package_that_cannot_be_read_is_brought_back_and_said_to_be_untested(tmp_path: Path) -> None:
    def package(request: dict[str, Any]) -> Any:
        return {} if request["ModelPackageName"] == PACKAGE else AWSError("AccessDenied", "not allowed")

    ended = await deploy(tmp_path, failing(DescribeModelPackage=package))

    assert ended.states[-1] == "RestoredNotProven"
    assert (
        "Production was brought back to arn:before, which is not proven: its tests could not run"
        in ended.cause
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
        f"The production endpoint {said} Production serves arn:before again, which passed its tests."
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
    assert [request["StackName"] for request in cloud.of("UpdateStack")] == ["stagegate-staging"]


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
REFUSED = AWSError("AccessDenied", "not allowed", status=403)


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({"DescribeModelPackage": [REFUSED]}, "PackageUnreadable"),
        ({"GetObject": [REFUSED]}, "StagingDeploymentFailed"),
        ({"DescribeStacks": [REFUSED]}, "StagingDeploymentFailed"),
        ({"DescribeStacks": stacks(absent("x")), "CreateStack": [REFUSED]}, "StagingDeploymentFailed"),
        ({"UpdateStack": [REFUSED]}, "StagingDeploymentFailed"),
        ({"UpdateStack": [{}, REFUSED]}, "ProductionDeploymentFailed"),
        ({"DescribeStacks": stacks("ROLLBACK_FAILED"), "DeleteStack": [REFUSED]}, "StagingDeploymentFailed"),
        ({"DescribeStacks": stacks(DONE, REFUSED)}, "StagingDeploymentUnknown"),
        (
            {"DescribeStacks": stacks(DONE, "UPDATE_ROLLBACK_FAILED"), "DescribeStackEvents": [REFUSED]},
            "StagingDeploymentUnknown",
        ),
        ({"DescribeStacks": stacks(DONE, DONE, DONE, REFUSED)}, "ProductionDeploymentUnknown"),
        ({"StartBuild": [REFUSED], "GetObject": [{}, REFUSED]}, "StagingTestsBroken"),
        ({"UpdateModelPackage": [REFUSED]}, "DecisionNotRecorded"),
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

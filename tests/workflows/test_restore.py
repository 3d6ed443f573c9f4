"""Production that is not proven is brought back, and what it is then is said."""

from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from stagegate.local.service import AWSError
from tests.workflows.releases import DONE, FAILED_SUMMARY, NOTHING_TO_DO, UNDER_WAY, deploy, values_of
from tests.workflows.simulation import PACKAGE, Cloud, absent, stack, stacks

FAILED_TESTS = "The endpoint tests of production failed: 2 of 3 passed; test_latency: too slow."
LAST_PROPERTIES = {
    "RunId": "r-before",
    "PreprocessedUri": "s3://data/runs/r-before/preprocessed",
    "EvaluationPrefix": "runs/r-before/evaluation",
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
    assert ended.cause == f"{FAILED_TESTS} Production serves before again, which passed its tests."
    _, changed = cloud.of("CreateChangeSet")
    (restored,) = cloud.of("UpdateStack")
    assert changed["TemplateURL"].endswith("/code/0123456789abcdef/deploy/endpoint.yaml")
    assert restored["TemplateURL"].endswith("/code/fedcba9876543210/deploy/endpoint.yaml")
    assert restored["StackName"] == "stagegate-production"
    assert values_of(restored["Parameters"]) == {
        "Stage": "x",
        "ModelPackageName": "before",
        "Code": "fedcba9876543210",
    }
    tested = cloud.of("StartBuild")[-1]
    environment = {entry["name"]: entry["value"] for entry in tested["environmentVariablesOverride"]}
    assert environment == {
        "STAGE": "production",
        "ENDPOINT_NAME": "stagegate-production",
        "MODEL_PACKAGE_ARN": "before",
        "TEST_DATA_URI": "s3://data/runs/r-before/preprocessed/test",
        "PREDICTIONS_URI": "s3://data/runs/r-before/evaluation/predictions.npz",
        "REGISTERED_ACCURACY": "0.81",
    }
    assert tested["artifactsOverride"]["name"] == "restored"
    assert tested["sourceLocationOverride"] == "assets/code/fedcba9876543210/deploy.zip"


async def test_production_is_brought_back_at_once(tmp_path: Path) -> None:
    before = stack(DONE)
    before["Parameters"] += [
        {"ParameterKey": name, "ParameterValue": "60"}
        for name in ("CanaryPercent", "CanarySeconds", "BakingSeconds")
    ]
    cloud = failing(DescribeStacks=[*stacks(DONE, DONE), {"Stacks": [before]}])

    await deploy(tmp_path, cloud)

    (restored,) = cloud.of("UpdateStack")
    values = values_of(restored["Parameters"])
    assert (values["CanaryPercent"], values["CanarySeconds"], values["BakingSeconds"]) == ("0", "60", "0")
    assert values["ModelPackageName"] == "before"


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
    cloud = failing(DescribeStacks=[*stacks(DONE), same], DescribeChangeSet=[NOTHING_TO_DO, NOTHING_TO_DO])

    ended = await deploy(tmp_path, cloud)

    assert (ended.error, ended.states[-1]) == ("ProductionTestsFailed", "ProductionAsBefore")
    assert ended.cause.endswith(f"Production serves {PACKAGE}, which it served before this release.")


async def test_a_stack_without_a_code_is_brought_back_by_this_releases_template(tmp_path: Path) -> None:
    old = stack(DONE)
    del old["Parameters"][-1]
    cloud = failing(DescribeStacks=[*stacks(DONE, DONE), {"Stacks": [old]}])

    ended = await deploy(tmp_path, cloud)

    assert ended.states[-1] == "ProductionRestored"
    _, changed = cloud.of("CreateChangeSet")
    (restored,) = cloud.of("UpdateStack")
    assert restored["TemplateURL"] == changed["TemplateURL"]


LOST = "Production may be broken: look at its stack."


@pytest.mark.parametrize(
    ("answers", "end", "consequence"),
    [
        (
            {"UpdateStack": AWSError("AccessDenied", "not allowed")},
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
            "Production was brought back to before, which is not proven: The endpoint tests of "
            "production failed: 3 of 3 passed. Look at its stack.",
        ),
        (
            {
                "DescribeStacks": [*stacks(DONE, DONE, absent("x"), DONE)],
                "DeleteStack": AWSError("No", "no"),
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
        "Production was brought back to before, which is not proven: its tests could not run" in ended.cause
    )

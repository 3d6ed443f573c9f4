"""ci, every way through it, on the real engine, with a lock in a table that takes conditions seriously."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from stagegate.local.service import AWSError
from tests.workflows.simulation import PACKAGE, Cloud, Ended, execute, stack, stacks

COMMIT, NEWER, OLDER = "c" * 40, "d" * 40, "b" * 40
ACCOUNT = "arn:aws:states:us-east-1:111111111111"
HOLDER, RUN = f"{ACCOUNT}:execution:ci:older", f"{ACCOUNT}:execution:model-build:c-{'b' * 12}"
RELEASE = {
    "Commit": COMMIT,
    "Start": "model-build",
    "IsObsolete": False,
    "CodeUri": "s3://assets/code/0123456789abcdef",
    "AccuracyThreshold": 0.8,
    "HyperParameters": {"epochs": "3"},
    "Preprocess": {"image-size": "32"},
    "RemoveStaging": False,
    "TemplateUrl": "https://assets.s3.us-east-1.amazonaws.com/templates/x.yaml",
    "Declared": ["Stage", "Code", "New"],
    "Parameters": {"Code": "0123456789abcdef", "Forgotten": "not in the template any more"},
}


def last_event(service: str, resource: str) -> dict[str, Any]:
    details = {"resourceType": service, "resource": resource}
    event = {"timestamp": datetime.now(UTC), "type": "TaskSubmitted", "id": 9, "previousEventId": 8}
    return {"events": [event | {"taskSubmittedEventDetails": details}]}


ASKING = last_event("lambda", "invoke.waitForTaskToken")
TRAINING = last_event("sagemaker", "createTrainingJob.sync")
ABSENT = {
    "StartBuild": AWSError("ResourceNotFoundException", "not allowed"),
    "StartExecution": AWSError("StateMachineDoesNotExist", "not allowed"),
}
"""What the optimised integrations do not take for a fault of the service, which passes."""
REFUSED = AWSError("AccessDeniedException", "not allowed", status=403)
NO_CHANGES = {"Status": "FAILED", "StatusReason": "The submitted information didn't contain changes.",
              "Changes": []}  # fmt: skip


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The table of locks."""
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        dynamodb = boto3.client("dynamodb", region_name="us-east-1")
        dynamodb.create_table(
            TableName="the-LocksTable",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "LockId", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "LockId", "KeyType": "HASH"}],
        )
        yield dynamodb


@pytest.fixture
def cloud(table: Any) -> Cloud:
    def answered(operation: str) -> Callable[[dict[str, Any]], Any]:
        def answer(request: dict[str, Any]) -> Any:
            try:
                return getattr(table, operation)(**request)
            except ClientError as error:
                return AWSError(error.response["Error"]["Code"], error.response["Error"]["Message"])

        return answer

    return Cloud(
        answers={
            "PutItem": answered("put_item"),
            "GetItem": answered("get_item"),
            "UpdateItem": answered("update_item"),
            "GetBranch": {"branch": {"branchName": "main", "commitId": COMMIT}},
            "GetCommit": {"commit": {"author": {"email": "ann@example.com"}}},
            "ListExecutions": {"executions": []},
            "GetObject": {"Body": json.dumps(RELEASE).encode()},
            "DescribeStacks": stacks("UPDATE_COMPLETE", "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE"),
            "StartExecution": {"executionArn": RUN, "startDate": datetime.now(UTC)},
            "DescribeExecution": {"executionArn": RUN, "status": "RUNNING"},
            "GetExecutionHistory": [TRAINING, ASKING],
        }
    )


async def integrate(folder: Path, cloud: Cloud, mode: str = "SUPERSEDED", **given: object) -> Ended:
    event = {"EventId": "1", "Commit": COMMIT, "Trigger": f"commit {COMMIT} of stagegate/main"}
    return await execute(folder, "ci", cloud, event | given, ExecutionMode=mode)


def lock(table: Any) -> dict[str, Any]:
    item = table.get_item(TableName="the-LocksTable", Key={"LockId": {"S": "ci"}}).get("Item", {})
    return {name: next(iter(value.values())) for name, value in item.items()}


def held(table: Any, *, phase: str, commit: str = OLDER, until: float = 4e9, **more: str) -> None:
    """Another execution holds the lock."""
    values = {"LockId": "ci", "Holder": HOLDER, "Phase": phase, "Commit": commit, **more}
    item = {name: {"S": value} for name, value in values.items()} | {"ExpiresAt": {"N": str(int(until))}}
    table.put_item(TableName="the-LocksTable", Item=item)


def mail(cloud: Cloud) -> tuple[str, str]:
    (published,) = cloud.of("Publish")
    assert published["TopicArn"] == "the-NotificationTopic"
    return published["Subject"], published["Message"]


def release(**changes: object) -> dict[str, bytes]:
    return {"Body": json.dumps(RELEASE | changes).encode()}


async def test_a_commit_is_built_the_platform_updated_and_a_model_built_of_it(
    tmp_path: Path, cloud: Cloud, table: Any
) -> None:
    ended = await integrate(tmp_path, cloud)

    assert (ended.status, ended.cause) == ("SUCCEEDED", "")
    assert ended.states == [
        *("Claim", "Settings", "ReadBranch", "ExecutionMode", "IsNewest", "Lock", "ReadCommit"),
        *("Build", "ReadRelease", "IsObsolete", "BeginUpdate"),
        *("FindPlatform", "IsPlatformBusy", "PlanPlatform", "ShowPlatformChanges", "IsPlatformPlanned"),
        *("UpdatePlatform", "PlatformUpdating", "WatchPlatform", "IsPlatformUpdated"),
        *("PlatformUpdating", "WatchPlatform", "IsPlatformUpdated"),
        *("WhatChanged", "StartModelBuild", "BeginRun"),
        *("ModelBuilding", "DescribeRun", "IsRunning", "IsItAsking", "IsAsking"),
        *("ModelBuilding", "DescribeRun", "IsRunning", "IsItAsking", "IsAsking"),
        *("Finish", "Outcome", "Done"),
    ]
    (build,) = cloud.of("StartBuild")
    assert build["sourceVersion"] == COMMIT
    assert {it["name"]: it["value"] for it in build["environmentVariablesOverride"]} == {
        "COMMIT": COMMIT,
        "BASE_COMMIT": "",
    }
    assert lock(table) == {"LockId": "ci", "Commit": COMMIT, "Finished": COMMIT}
    assert cloud.of("Publish") == []


async def test_the_run_gets_the_commits_code_and_settings_and_who_wrote_it(
    tmp_path: Path, cloud: Cloud
) -> None:
    await integrate(tmp_path, cloud)

    (start,) = cloud.of("StartExecution")
    given = json.loads(start["input"])
    assert start["stateMachineArn"] == "the-ModelBuildArn"
    assert start["name"] == given["RunId"]
    assert given["RunId"].startswith("c-cccccccccccc-")
    assert {name: value for name, value in given.items() if name != "RunId"} == {
        "Commit": COMMIT,
        "CodeUri": RELEASE["CodeUri"],
        "StartedBy": "ann@example.com",
        "Trigger": f"commit {COMMIT} of stagegate/main",
        "AccuracyThreshold": 0.8,
        "HyperParameters": {"epochs": "3"},
        "Preprocess": {"image-size": "32"},
    }


async def test_the_platform_keeps_what_the_commit_does_not_say(tmp_path: Path, cloud: Cloud) -> None:
    await integrate(tmp_path, cloud)

    (plan,) = cloud.of("CreateChangeSet")
    assert (plan["StackName"], plan["ChangeSetType"]) == ("stagegate-platform", "UPDATE")
    assert plan["TemplateURL"] == RELEASE["TemplateUrl"]
    assert plan["Parameters"] == [
        {"ParameterKey": "Stage", "UsePreviousValue": True},
        {"ParameterKey": "Code", "ParameterValue": "0123456789abcdef"},
    ]
    assert (plan["RoleARN"], plan["Capabilities"]) == (
        "arn:aws:iam::111111111111:role/the-PlatformRoleArn",
        ["CAPABILITY_NAMED_IAM"],
    )


async def test_a_platform_that_is_at_the_commit_already_is_not_updated(tmp_path: Path, cloud: Cloud) -> None:
    cloud.answers["DescribeChangeSet"] = NO_CHANGES

    ended = await integrate(tmp_path, cloud)

    assert ended.status == "SUCCEEDED"
    assert (len(cloud.of("DeleteChangeSet")), cloud.of("ExecuteChangeSet")) == (1, [])


async def test_a_commit_that_changes_how_models_are_deployed_deploys_the_champion(
    tmp_path: Path, cloud: Cloud, table: Any
) -> None:
    cloud.answers["GetObject"] = release(Start="model-deploy")
    cloud.answers["DescribeStacks"] = [
        *stacks("UPDATE_COMPLETE", "UPDATE_COMPLETE"),
        {"Stacks": [stack("UPDATE_COMPLETE", package=PACKAGE)]},
    ]

    ended = await integrate(tmp_path, cloud)

    assert (ended.status, ended.states[-5:]) == (
        "SUCCEEDED",
        ["FindChampion", "StartModelDeploy", "Finish", "Outcome", "Done"],
    )
    (start,) = cloud.of("StartExecution")
    assert start["stateMachineArn"] == "the-ModelDeployArn"
    assert json.loads(start["input"]) == {
        "ModelPackageArn": PACKAGE,
        "EventId": start["name"],
        "CodeUri": RELEASE["CodeUri"],
        "StartedBy": "ann@example.com",
        "Trigger": f"commit {COMMIT} of stagegate/main",
        "RemoveStaging": False,
    }
    assert lock(table)["Finished"] == COMMIT


@pytest.mark.parametrize(
    ("start", "states"),
    [
        ("nothing", ["WhatChanged", "Finish", "Outcome", "Done"]),
        ("model-deploy", ["FindChampion", "IsNothingReleased", "Finish", "Outcome", "Done"]),
    ],
    ids=["documentation", "nothing-in-production"],
)
async def test_where_there_is_nothing_to_release_nothing_is_started(
    tmp_path: Path, cloud: Cloud, start: str, states: list[str]
) -> None:
    cloud.answers["GetObject"] = release(Start=start)
    absent = AWSError("ValidationError", "Stack with id stagegate-production does not exist")
    cloud.answers["DescribeStacks"] = [*stacks("UPDATE_COMPLETE", "UPDATE_COMPLETE"), absent]

    ended = await integrate(tmp_path, cloud)

    assert (ended.status, ended.states[-len(states) :]) == ("SUCCEEDED", states)
    assert cloud.of("StartExecution") == []


async def test_a_test_that_fails_ends_it_there_and_is_mailed(tmp_path: Path, cloud: Cloud) -> None:
    message = "Error while executing command: python3 -m pytest. Reason: exit status 1"
    failed = {
        "id": "build:1",
        "buildStatus": "FAILED",
        "phases": [
            {"phaseType": "INSTALL", "phaseStatus": "SUCCEEDED", "contexts": [{"message": ""}]},
            {"phaseType": "BUILD", "phaseStatus": "FAILED", "contexts": [{"message": message}]},
            {"phaseType": "UPLOAD_ARTIFACTS", "phaseStatus": "FAILED", "contexts": [{"message": "none"}]},
        ],
        "reportArns": ["arn:report/build:1"],
    }
    case = {"prefix": "tests.training.test_train", "name": "test_loss", "message": "assert 2 == 1"}
    cloud.answers |= {"BatchGetBuilds": {"builds": [failed]}, "DescribeTestCases": {"testCases": [case]}}

    ended = await integrate(tmp_path, cloud)

    subject, text = mail(cloud)
    assert (ended.status, ended.error) == ("FAILED", "BuildFailed")
    assert ended.cause == (
        f"Commit {COMMIT} by ann@example.com did not pass.\n"
        "Tests that failed:\n"
        "tests.training.test_train::test_loss: assert 2 == 1\n"
        f"{message}\n"
        "Build: build:1\n"
        "Nothing was changed and nothing was started."
    )
    assert subject == "stagegate ci: BuildFailed"
    assert text.startswith(f"{ended.cause}\n\nExecution: arn:aws:states:")
    assert cloud.of("CreateChangeSet") == cloud.of("StartExecution") == []


async def test_a_build_that_fails_without_a_report_says_which_command(tmp_path: Path, cloud: Cloud) -> None:
    message = "Error while executing command: ruff. Reason: exit status 1"
    phase = {"phaseType": "BUILD", "phaseStatus": "FAILED", "contexts": [{"message": message}]}
    cloud.answers["BatchGetBuilds"] = {
        "builds": [{"id": "build:1", "buildStatus": "FAILED", "phases": [phase]}]
    }

    ended = await integrate(tmp_path, cloud)

    assert ended.cause == (
        f"Commit {COMMIT} by ann@example.com did not pass.\n{message}\nBuild: build:1\n"
        "Nothing was changed and nothing was started."
    )


async def test_a_platform_that_cannot_be_updated_starts_nothing_and_says_why(
    tmp_path: Path, cloud: Cloud
) -> None:
    cloud.answers["DescribeStacks"] = stacks("UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")
    cloud.answers["DescribeStackEvents"] = {
        "StackEvents": [
            {
                "StackId": "x",
                "EventId": "1",
                "StackName": "x",
                "Timestamp": datetime.now(UTC),
                "LogicalResourceId": "ModelBuild",
                "ResourceStatus": "UPDATE_FAILED",
                "ResourceStatusReason": "the definition is invalid",
                "ClientRequestToken": "stagegate-platform",
            }
        ]
    }

    ended = await integrate(tmp_path, cloud)

    assert (ended.status, ended.error) == ("FAILED", "PlatformUpdateFailed")
    assert ended.cause == (
        f"The update of the platform to commit {COMMIT} ended as UPDATE_ROLLBACK_COMPLETE: "
        "ModelBuild: the definition is invalid Nothing was started."
    )
    assert mail(cloud)[0] == "stagegate ci: PlatformUpdateFailed"
    assert cloud.of("StartExecution") == []


async def test_a_model_that_is_not_built_is_a_failure_of_its_commit_which_is_done(
    tmp_path: Path, cloud: Cloud, table: Any
) -> None:
    cloud.answers["DescribeExecution"] = {
        "executionArn": RUN,
        "status": "FAILED",
        "error": "AccuracyBelowThreshold",
        "cause": "The accuracy 0.5 is below 0.8.",
    }

    ended = await integrate(tmp_path, cloud)

    assert (ended.status, ended.error) == ("FAILED", "ModelNotBuilt")
    assert ended.cause == (
        f"The run {RUN} of commit {COMMIT} ended as FAILED: "
        "AccuracyBelowThreshold: The accuracy 0.5 is below 0.8."
    )
    assert mail(cloud)[0] == "stagegate ci: ModelNotBuilt"
    assert lock(table) == {"LockId": "ci", "Commit": COMMIT, "Finished": COMMIT}


async def test_the_next_build_is_told_what_the_last_one_has_released(
    tmp_path: Path, cloud: Cloud, table: Any
) -> None:
    item = {"LockId": {"S": "ci"}, "Commit": {"S": OLDER}, "Finished": {"S": OLDER}}
    table.put_item(TableName="the-LocksTable", Item=item)

    await integrate(tmp_path, cloud)

    (build,) = cloud.of("StartBuild")
    assert {"name": "BASE_COMMIT", "value": OLDER, "type": "PLAINTEXT"} in build[
        "environmentVariablesOverride"
    ]


async def test_one_event_starts_one_run(tmp_path: Path, cloud: Cloud) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    await integrate(tmp_path / "first", cloud)

    again = await integrate(tmp_path / "second", cloud)

    assert (again.status, again.states) == ("SUCCEEDED", ["Claim", "StartedAlready"])
    assert len(cloud.of("StartBuild")) == 1


async def test_without_a_commit_it_is_the_branchs_newest(tmp_path: Path, cloud: Cloud) -> None:
    ended = await execute(tmp_path, "ci", cloud, {}, ExecutionMode="SUPERSEDED")

    assert ended.status == "SUCCEEDED"
    assert cloud.of("StartBuild")[0]["sourceVersion"] == COMMIT


# ---- Two commits in a row ---------------------------------------------------------------------------


async def test_a_commit_that_is_not_the_newest_any_more_is_not_built(tmp_path: Path, cloud: Cloud) -> None:
    cloud.answers["GetBranch"] = {"branch": {"branchName": "main", "commitId": NEWER}}

    ended = await integrate(tmp_path, cloud)

    assert (ended.status, ended.states[-1]) == ("SUCCEEDED", "Superseded")
    assert cloud.of("StartBuild") == []


async def test_where_each_is_built_an_older_one_is_too(tmp_path: Path, cloud: Cloud) -> None:
    cloud.answers["GetBranch"] = {"branch": {"branchName": "main", "commitId": NEWER}}

    ended = await integrate(tmp_path, cloud, mode="QUEUED")

    assert (ended.status, ended.states[-1]) == ("SUCCEEDED", "Done")
    assert cloud.of("StartBuild")[0]["sourceVersion"] == COMMIT


async def test_where_each_is_built_the_earlier_one_is_waited_for(tmp_path: Path, cloud: Cloud) -> None:
    earlier = {
        "executionArn": HOLDER,
        "stateMachineArn": f"{ACCOUNT}:stateMachine:ci",
        "name": "older",
        "status": "RUNNING",
        "startDate": datetime(2026, 1, 1, tzinfo=UTC),
    }
    later = earlier | {"executionArn": f"{HOLDER}-later", "startDate": datetime(2099, 1, 1, tzinfo=UTC)}
    cloud.answers["ListExecutions"] = [{"executions": [later, earlier]}, {"executions": [later]}]

    ended = await integrate(tmp_path, cloud, mode="QUEUED")

    waited = ["ReadQueue", "IsMyTurn", "Waiting", "ReadBranch", "ExecutionMode", "IsNewest", "ReadQueue"]
    assert ended.status == "SUCCEEDED"
    assert ended.states[5:14] == [*waited, "IsMyTurn", "Lock"]


@pytest.mark.parametrize("phase", ["building", "updating", "running"])
async def test_where_each_is_built_who_holds_the_lock_is_waited_for(
    tmp_path: Path, cloud: Cloud, table: Any, phase: str
) -> None:
    held(table, phase=phase)
    running = {"executionArn": HOLDER, "status": "RUNNING"}
    cloud.answers["DescribeExecution"] = [running, running, {"executionArn": HOLDER, "status": "FAILED"}]

    ended = await integrate(tmp_path, cloud, mode="QUEUED")

    assert ended.states.count("Waiting") == 2
    assert "TakeLock" in ended.states
    assert cloud.of("StopExecution") == []
    assert len(cloud.of("StartBuild")) == 1


async def test_the_newer_one_takes_the_place_of_one_that_is_being_built(
    tmp_path: Path, cloud: Cloud, table: Any
) -> None:
    held(table, phase="building")

    ended = await integrate(tmp_path, cloud)

    (stopped,) = cloud.of("StopExecution")
    assert (ended.status, ended.states[-1]) == ("SUCCEEDED", "Done")
    assert (stopped["executionArn"], stopped["error"]) == (HOLDER, "Superseded")
    assert stopped["cause"].startswith(f"Commit {COMMIT} is newer: {ACCOUNT}:execution:ci:")


async def test_its_run_is_stopped_too_where_it_is_not_asking_yet(
    tmp_path: Path, cloud: Cloud, table: Any
) -> None:
    held(table, phase="running", Run=RUN)
    cloud.answers["GetExecutionHistory"] = [TRAINING, ASKING]

    await integrate(tmp_path, cloud)

    assert [it["executionArn"] for it in cloud.of("StopExecution")] == [HOLDER, RUN]


async def test_a_model_that_waits_for_a_person_is_left_to_them(
    tmp_path: Path, cloud: Cloud, table: Any
) -> None:
    held(table, phase="running", Run=RUN)
    cloud.answers["GetExecutionHistory"] = [ASKING, ASKING]

    await integrate(tmp_path, cloud)

    assert [it["executionArn"] for it in cloud.of("StopExecution")] == [HOLDER]


async def test_an_update_that_is_under_way_is_waited_for(tmp_path: Path, cloud: Cloud, table: Any) -> None:
    held(table, phase="updating")
    cloud.answers["DescribeExecution"] = [
        {"executionArn": HOLDER, "status": "RUNNING"},
        {"executionArn": HOLDER, "status": "SUCCEEDED"},
    ]

    ended = await integrate(tmp_path, cloud)

    assert ended.states.count("Waiting") == 1
    assert cloud.of("StopExecution") == []


@pytest.mark.parametrize(
    "answer",
    [
        {"executionArn": HOLDER, "status": "ABORTED"},
        AWSError("ExecutionDoesNotExist", "Execution does not exist"),
    ],
    ids=["ended", "forgotten"],
)
async def test_a_lock_whose_holder_is_gone_is_free(
    tmp_path: Path, cloud: Cloud, table: Any, answer: Any
) -> None:
    held(table, phase="updating")
    cloud.answers["DescribeExecution"] = [answer]

    ended = await integrate(tmp_path, cloud)

    assert (ended.status, cloud.of("StopExecution")) == ("SUCCEEDED", [])
    assert lock(table)["Finished"] == COMMIT


async def test_a_lock_whose_lease_is_over_is_free(tmp_path: Path, cloud: Cloud, table: Any) -> None:
    held(table, phase="updating", until=1000)

    ended = await integrate(tmp_path, cloud)

    assert (ended.status, ended.states.count("Waiting")) == ("SUCCEEDED", 0)


@pytest.mark.parametrize(
    ("operation", "state"), [("GetObject", "BeginUpdate"), ("StartExecution", "BeginRun")], ids=str
)
async def test_who_has_lost_the_lock_goes_no_further(
    tmp_path: Path, cloud: Cloud, table: Any, operation: str, state: str
) -> None:
    answer = cloud.answers[operation]

    def lose(request: dict[str, Any]) -> Any:
        held(table, phase="building", commit=NEWER)
        return answer

    cloud.answers[operation] = lose

    ended = await integrate(tmp_path, cloud)

    assert (ended.status, ended.states[-2:]) == ("SUCCEEDED", [state, "Superseded"])
    assert lock(table)["Holder"] == HOLDER


async def test_a_second_execution_of_the_same_commit_ends(tmp_path: Path, cloud: Cloud, table: Any) -> None:
    held(table, phase="building", commit=COMMIT)

    ended = await integrate(tmp_path, cloud)

    assert (ended.status, ended.states[-1]) == ("SUCCEEDED", "BuiltAlready")
    assert cloud.of("StartBuild") == cloud.of("StopExecution") == []


async def test_a_commit_that_is_behind_what_was_released_is_not_released(
    tmp_path: Path, cloud: Cloud
) -> None:
    cloud.answers["GetObject"] = release(IsObsolete=True)

    ended = await integrate(tmp_path, cloud)

    assert (ended.status, ended.states[-2:]) == ("SUCCEEDED", ["IsObsolete", "Superseded"])
    assert cloud.of("CreateChangeSet") == []


# ---- What fails is mailed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        ("GetBranch", "SourceUnreadable"),
        ("GetCommit", "SourceUnreadable"),
        ("UpdateItem", "LockFailed"),
        ("StartBuild", "BuildFailed"),
        ("GetObject", "BuildFailed"),
        ("CreateChangeSet", "PlatformUpdateFailed"),
        ("DescribeChangeSet", "PlatformUpdateFailed"),
        ("ExecuteChangeSet", "PlatformUpdateFailed"),
        ("StartExecution", "NotStarted"),
        ("DescribeExecution", "RunUnseen"),
        ("GetExecutionHistory", "RunUnseen"),
    ],
    ids=str,
)
async def test_a_service_that_refuses_ends_it_with_its_words_in_a_mail(
    tmp_path: Path, cloud: Cloud, operation: str, error: str
) -> None:
    cloud.answers[operation] = ABSENT.get(operation, REFUSED)

    ended = await integrate(tmp_path, cloud)

    subject, text = mail(cloud)
    assert (ended.status, ended.error, subject) == ("FAILED", error, f"stagegate ci: {error}")
    assert "not allowed" in ended.cause
    assert text.startswith(ended.cause)


async def test_it_fails_with_its_reason_where_nobody_can_be_told(tmp_path: Path, cloud: Cloud) -> None:
    cloud.answers |= {"GetBranch": REFUSED, "Publish": AWSError("NotFound", "Topic does not exist")}

    ended = await integrate(tmp_path, cloud)

    assert (ended.status, ended.error) == ("FAILED", "SourceUnreadable")


async def test_a_claim_that_cannot_be_made_ends_it(tmp_path: Path, cloud: Cloud) -> None:
    cloud.answers["PutItem"] = REFUSED

    ended = await integrate(tmp_path, cloud)

    assert (ended.status, ended.error) == ("FAILED", "ClaimFailed")

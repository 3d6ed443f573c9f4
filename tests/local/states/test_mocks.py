"""Mocked results: what the mocked API could have answered, and what it could not."""

import json
from typing import Any

import pytest

from stagegate.local.service import AWSError
from stagegate.local.states.definition import State
from stagegate.local.states.errors import StateFailed
from stagegate.local.states.mocks import Mock, read_mock
from stagegate.local.states.parser import parse_state
from tests.local.states.tested_states import EACH, INVOKE

INTEGRATION = "arn:aws:states:::"
STARTED = {"ExecutionArn": "e", "StateMachineArn": "m", "Status": "SUCCEEDED", "StartDate": "today"}
FORK = {
    "Type": "Parallel",
    "Branches": [{"StartAt": name, "States": {name: {"Type": "Succeed"}}} for name in ("One", "Two")],
    "End": True,
}


def state_of(fields: dict[str, Any]) -> State:
    return parse_state("State", fields, "JSONPath")


def mock_of(resource: str, result: Any, mode: str = "STRICT") -> Mock:
    given = {"result": json.dumps(result), "fieldValidationMode": mode}
    return read_mock(given, state_of(INVOKE), resource)


@pytest.mark.parametrize("mode", ["STRICT", "PRESENT"])
@pytest.mark.parametrize(
    ("resource", "result", "problem"),
    [
        ("aws-sdk:s3:getObject", {"ContentLength": "1"}, "Field 'ContentLength' must be a number"),
        ("aws-sdk:s3:getObject", {"ContentLength": True}, "Field 'ContentLength' must be a number"),
        ("aws-sdk:s3:getObject", {"Metadata": []}, "Field 'Metadata' must be an object"),
        ("aws-sdk:s3:getObject", {"Metadata": {"a": 1}}, "Field 'Metadata' must be a string"),
        ("aws-sdk:s3:getObject", {"StorageClass": "Paper"}, "Field 'StorageClass' is not an expected value"),
        ("aws-sdk:s3:getObject", {"DeleteMarker": 1}, "Field 'DeleteMarker' must be a boolean"),
        ("aws-sdk:kms:encrypt", {"CiphertextBlob": 1}, "Field 'CiphertextBlob' must be a string"),
        (
            "aws-sdk:lambda:getFunction",
            {"Configuration": {"Timeout": 0}},
            "Field 'Timeout' is less than the minimum value",
        ),
        (
            "aws-sdk:lambda:getFunction",
            {"Configuration": {"EphemeralStorage": {"Size": 10**6}}},
            "Field 'Size' exceeds the maximum value",
        ),
        ("dynamodb:getItem", {"Item": {"id": {"S": 1}}}, "Field 'S' must be a string"),
        ("dynamodb:getItem", {"Item": {"id": {"L": [{"BOOL": 1}]}}}, "Field 'BOOL' must be a boolean"),
        ("events:putEvents", {"Entries": {}}, "Field 'Entries' must be an array"),
        ("events:putEvents", {"Entries": [{}, {"EventId": 1}]}, "Field 'EventId' must be a string"),
        ("lambda:invoke", {"StatusCode": "200"}, "Field 'StatusCode' must be a number"),
        ("codebuild:startBuild.sync", {"Build": {"Id": 5}}, "Field 'Id' must be a string"),
        ("codebuild:startBuild.sync", {"Builds": [{"Id": 5}]}, "Field 'Id' must be a string"),
        (
            "aws-sdk:athena:getQueryExecution",
            {"QueryExecution": 1},
            "Field 'QueryExecution' must be an object",
        ),
        ("glue:startJobRun", {"JobRunId": 1}, "Field 'JobRunId' must be a string"),
    ],
)
def test_a_mocked_result_must_be_what_the_api_could_answer(
    resource: str, result: Any, problem: str, mode: str
) -> None:
    with pytest.raises(AWSError) as refused:
        mock_of(INTEGRATION + resource, result, mode)

    assert refused.value.code == "ValidationException"
    assert refused.value.message == f"Mock result schema validation error: {problem}"
    assert mock_of(INTEGRATION + resource, result, "NONE").result == result


@pytest.mark.parametrize(
    ("resource", "result"),
    [
        ("lambda:invoke", {"StatusCode": 200, "Payload": {"any": "JSON"}}),
        ("lambda:invoke", {"Unknown": 1, "SdkHttpMetadata": {"HttpStatusCode": 200}}),
        ("lambda:invoke.waitForTaskToken", ["what", "the", "worker", "answers"]),
        ("aws-sdk:s3:getObject", {"ContentLength": None}),
        ("dynamodb:getItem", {"Item": {"id": {"S": "a"}, "tags": {"L": [{"N": "1"}]}}}),
        ("states:startExecution.sync", {**STARTED, "Output": "{}"}),
        ("states:startExecution.sync:2", {**STARTED, "Output": {"read": True}}),
        ("states:startExecution.sync:2", {**STARTED, "Output": "{}"}),
        ("codebuild:startBuild.sync", {"Build": {"Id": "b", "BuildStatus": "SUCCEEDED"}}),
        ("codebuild:startBuild.sync", {"Builds": [{"Id": "b"}]}),
        ("apigateway:invoke", "anything"),
        ("glue:startJobRun.sync", {"JobRunState": "SUCCEEDED"}),
    ],
)
def test_what_the_api_could_answer_is_taken(resource: str, result: Any) -> None:
    assert mock_of(INTEGRATION + resource, result) == Mock(result=result)


@pytest.mark.parametrize(
    "resource",
    [
        "arn:aws:lambda:us-east-1:111111111111:function:f",
        "arn:aws:states:us-east-1:111111111111:activity:a",
    ],
)
def test_a_function_and_an_activity_may_answer_anything(resource: str) -> None:
    assert mock_of(resource, 5) == Mock(result=5)


def test_required_members_may_be_left_out_unless_it_is_strict() -> None:
    resource = f"{INTEGRATION}states:startExecution"

    with pytest.raises(AWSError, match="Field 'ExecutionArn' is required"):
        mock_of(resource, {"StartDate": "today"})

    for mode in ("PRESENT", "NONE"):
        assert mock_of(resource, {"StartDate": "today"}, mode).result == {"StartDate": "today"}


def test_the_polled_description_is_what_is_mocked_of_a_job() -> None:
    with pytest.raises(AWSError, match="Field 'StateMachineArn' is required"):
        mock_of(f"{INTEGRATION}states:startExecution.sync", {"ExecutionArn": "e", "StartDate": "today"})


@pytest.mark.parametrize(
    ("fields", "result", "problem"),
    [
        (EACH, {}, "Mocked result must be an array."),
        (FORK, {}, "Mocked result must be an array."),
        (
            FORK,
            [1],
            "Mocked result must contain the same number of items as number of Parallel branches.",
        ),
        (
            {**EACH, "ResultWriter": {"WriterConfig": {"OutputType": "JSON"}}},
            [],
            "Mocked result must be a JSON object.",
        ),
        (INVOKE, [], "Mocked result must be a JSON object."),
    ],
)
def test_a_mocked_result_has_the_form_of_the_states(
    fields: dict[str, Any], result: Any, problem: str
) -> None:
    with pytest.raises(AWSError) as refused:
        read_mock({"result": json.dumps(result)}, state_of(fields), fields.get("Resource"))

    assert (refused.value.code, refused.value.message) == ("ValidationException", problem)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "should have only one of the following fields"),
        ({"result": "1", "errorOutput": {"error": "E"}}, "should have only one of the following fields"),
        ({"result": "no"}, "Mocked result must be a valid JSON"),
        ({"errorOutput": {"cause": "why"}}, "'mock.errorOutput.error' failed to satisfy constraint"),
    ],
)
def test_a_mock_is_a_result_or_an_error(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(AWSError, match=problem) as refused:
        read_mock(given, state_of(INVOKE), INVOKE["Resource"])

    assert refused.value.code == "ValidationException"


@pytest.mark.parametrize("kind", ["Pass", "Succeed"])
def test_only_work_can_be_mocked(kind: str) -> None:
    with pytest.raises(AWSError, match=f"State type '{kind}' is not supported when a mock is specified"):
        read_mock({"result": "1"}, state_of({"Type": kind}), None)


def test_a_mocked_error_is_raised_when_it_is_asked_for() -> None:
    mock = read_mock({"errorOutput": {"error": "E", "cause": "why"}}, state_of(INVOKE), INVOKE["Resource"])

    with pytest.raises(StateFailed) as raised:
        mock.answer(from_task=True)

    assert (raised.value.error, raised.value.cause, raised.value.from_task) == ("E", "why", True)

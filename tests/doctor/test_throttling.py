"""Calls that throttling would end."""

from typing import Any

import pytest

from tests.doctor.examples import RETRY, call, machine, named, wrong


@pytest.mark.parametrize(
    ("api", "retry", "said"),
    [
        ("aws-sdk:s3:headObject", [], "aws-sdk:s3:headObject is not tried again when it is throttled"),
        (
            "sagemaker:createModel",
            [{"ErrorEquals": ["States.Timeout"]}],
            "sagemaker:createModel is not tried again when it is throttled",
        ),
        (
            "lambda:invoke",
            [{"ErrorEquals": ["Lambda.TooManyRequestsException"], "MaxAttempts": 0}],
            "lambda:invoke is not tried again when it is throttled",
        ),
        (
            "aws-sdk:dynamodb:query",
            [{"ErrorEquals": ["DynamoDB.ThrottlingException", "States.ALL"]}],
            "'DynamoDB.ThrottlingException' is no error of aws-sdk:dynamodb:query: "
            "these begin with 'DynamoDb.'",
        ),
        (
            "dynamodb:getItem",
            [{"ErrorEquals": ["DynamoDb.ThrottlingException", "States.TaskFailed"]}],
            "'DynamoDb.ThrottlingException' is no error of dynamodb:getItem: these begin with 'DynamoDB.'",
        ),
        (
            "aws-sdk:sesv2:sendEmail",
            [{"ErrorEquals": ["SESv2.TooManyRequestsException", "States.ALL"]}],
            "'SESv2.TooManyRequestsException' is no error of aws-sdk:sesv2:sendEmail: "
            "these begin with 'SesV2.'",
        ),
    ],
)
def test_throttling_that_ends_an_execution_is_found(api: str, retry: list[Any], said: str) -> None:
    assert wrong("throttling-not-handled", machine(call(api, Retry=retry))) == [said]


def test_a_retry_by_a_wrong_name_is_none_and_a_catch_is_read_too() -> None:
    retry = [{"ErrorEquals": ["Sagemaker.ThrottlingException"]}]
    catch = [{"ErrorEquals": ["sagemaker.ResourceNotFound"], "Next": "Done"}]
    first = call("sagemaker:createEndpoint", Retry=retry, Catch=catch)

    assert len(wrong("throttling-not-handled", machine(first))) == 3


@pytest.mark.parametrize(
    ("api", "error"),
    [
        ("aws-sdk:s3:headObject", "S3.ThrottlingException"),
        ("aws-sdk:dynamodb:query", "DynamoDb.ProvisionedThroughputExceededException"),
        ("sagemaker:createModel", "SageMaker.AmazonSageMakerException"),
        ("aws-sdk:sfn:startExecution", "Sfn.SfnException"),
        ("lambda:invoke", "Lambda.TooManyRequestsException"),
        ("lambda:invoke", "States.TaskFailed"),
    ],
)
def test_throttling_that_is_waited_out_is_none(api: str, error: str) -> None:
    first = call(api, Retry=[{"ErrorEquals": [error]}])

    assert named("throttling-not-handled", machine(first)) == []


def test_a_parallel_may_try_its_branches_again() -> None:
    branch = machine(call("aws-sdk:s3:headObject", Retry=[]))
    parallel = {"Type": "Parallel", "Branches": [branch], "End": True}

    assert named("throttling-not-handled", machine(parallel | {"Retry": RETRY})) == []
    assert named("throttling-not-handled", machine(parallel))

"""What a Task calls, with what, and as whom."""

from typing import Any

import pytest

from tests.local.states.validation.conftest import TASK, of_state


@pytest.mark.parametrize(
    "resource",
    [
        "arn:aws:states:::glue:startJobRun.sync",
        "arn:aws:states:::sagemaker:createModel.sync",
        "arn:aws:states:::sagemaker:createTrainingJob.waitForTaskToken",
        "arn:aws:states:::dynamodb:scan",
        "arn:aws:states:::lambda:invoke.sync",
        "arn:aws:states:::aws-sdk:s3:makeBucket",
        "arn:aws:states:::aws-sdk:glacier:listVaults",
        "arn:aws:states:::aws-sdk:s3:listBuckets.sync",
    ],
)
def test_an_integration_that_is_not_there_is_refused(resource: str) -> None:
    assert of_state({"Type": "Task", "Resource": resource, "Parameters": {}}) == [
        f"The resource provided {resource} is not recognized. The value is not a valid resource ARN, or the "
        "resource is not available in this region. at /Resource"
    ]


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"Resource": "score"}, "Value is not a valid resource ARN at /Resource"),
        ({"Resource": 1}, "Expected value of type [STRING] at /Resource"),
        (
            {"Parameters": {"FunctionName": "f", "Function": "f"}},
            'The field "Function" is not supported by Step Functions at /Parameters',
        ),
        ({"Parameters": {}}, "The field 'FunctionName' is required but was missing at /Parameters"),
        ({"Credentials": {}}, "The field 'RoleArn' is required but was missing at /Credentials"),
        ({"Credentials": {"Role": "x"}}, "The field 'RoleArn' is required but was missing at /Credentials"),
        ({"Credentials": 5}, "Expected value of type [OBJECT] at /Credentials"),
    ],
)
def test_a_task_that_is_wrong(fields: dict[str, Any], found: str) -> None:
    assert of_state({**TASK, **fields}) == [found]


@pytest.mark.parametrize(("language", "name"), [("JSONPath", "Parameters"), ("JSONata", "Arguments")])
def test_an_integration_is_called_with_something(language: str, name: str) -> None:
    task = {"Type": "Task", "Resource": "arn:aws:states:::sqs:sendMessage"}

    assert of_state(task, QueryLanguage=language) == [
        f"{name} field is required for resource ARN: arn:aws:states:::sqs:sendMessage at /Resource"
    ]


def test_each_field_that_an_integration_needs() -> None:
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sqs:sendMessage",
        "Parameters": {"QueueUrl.$": "$.q"},
    }

    assert of_state(task) == ["The field 'MessageBody' is required but was missing at /Parameters"]


@pytest.mark.parametrize(
    ("language", "task"),
    [
        ("JSONPath", {"Resource": "arn:aws:lambda:us-east-1:111111111111:function:f"}),
        ("JSONPath", {**TASK, "Credentials": {"RoleArn.$": "$.role"}}),
        ("JSONata", {"Resource": TASK["Resource"], "Arguments": "{% $states.input %}"}),
        ("JSONata", {"Resource": TASK["Resource"], "Arguments": {"FunctionName": "{% $f %}"}}),
        ("JSONata", {**TASK, "Credentials": "{% $role %}"} | {"Parameters": None}),
    ],
)
def test_a_task_that_is_right(language: str, task: dict[str, Any]) -> None:
    task = {name: value for name, value in task.items() if value is not None}
    if "Credentials" in task and language == "JSONata":
        task["Arguments"] = {"FunctionName": "f"}

    assert of_state({"Type": "Task", **task}, QueryLanguage=language) == []

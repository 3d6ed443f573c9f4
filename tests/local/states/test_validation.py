"""What is wrong with a definition: AWS's codes and places."""

import json
from typing import Any

import pytest

from stagegate.local.states.validation import diagnose
from tests.local.states.conftest import Machines, only

TASK = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Parameters": {}}


def problems(definition: Any, *, is_express: bool = False) -> list[str]:
    return [str(problem) for problem in diagnose(json.dumps(definition), is_express=is_express)]


@pytest.mark.parametrize(
    ("definition", "found"),
    [
        ({}, ["SCHEMA_VALIDATION_FAILED: These fields are required: [States, StartAt] at /"]),
        (
            {"StartAt": "A", "States": {"A": {"Type": "Pass", "Next": "B"}}},
            ["MISSING_TRANSITION_TARGET: Missing 'Next' target: B at /States/A/Next"],
        ),
        (
            {"StartAt": "B", "States": {"A": {"Type": "Succeed"}}},
            ["MISSING_TRANSITION_TARGET: Missing 'StartAt' target: B at /StartAt"],
        ),
        (
            {"StartAt": "A", "States": {"A": {"Type": "Succeed"}, "B": {"Type": "Succeed"}}},
            ['MISSING_TRANSITION_TARGET: State "B" is not reachable. at /States/B'],
        ),
        (
            {"StartAt": "A", "States": {"A": {"Type": "Succeed"}}, "Extra": 1},
            ["SCHEMA_VALIDATION_FAILED: Field is not supported at /Extra"],
        ),
    ],
)
def test_a_definition_that_is_wrong(definition: dict[str, Any], found: list[str]) -> None:
    assert problems(definition) == found


@pytest.mark.parametrize(
    ("state", "place"),
    [
        ({"Type": "Jump"}, "/Type"),
        ({"Type": "Pass", "Nexts": "x"}, "/Nexts"),
        ({"Type": "Pass", "InputPath": "x"}, "/InputPath"),
        ({"Type": "Pass", "ResultPath": "$.a[*]"}, "/ResultPath"),
        ({"Type": "Pass", "ResultPath": "$$.a"}, "/ResultPath"),
        ({"Type": "Pass", "Parameters": {"a.$": "a"}}, "/Parameters"),
        ({"Type": "Pass", "Parameters": {"a.$": "States.Nothing()"}}, "/Parameters"),
        ({"Type": "Pass", "Parameters": {"a": [{"b.$": 1}]}}, "/Parameters/a[0]"),
        ({"Type": "Task"}, ""),
        ({**TASK, "Parameters": {"Function": "f"}}, "/Parameters"),
        ({**TASK, "TimeoutSeconds": 0}, "/TimeoutSeconds"),
        ({**TASK, "TimeoutSeconds": 1, "TimeoutSecondsPath": "$.x"}, ""),
        ({**TASK, "Credentials": {}}, "/Credentials"),
        ({**TASK, "Retry": [{"ErrorEquals": []}]}, "/Retry[0]"),
        ({**TASK, "Retry": [{"ErrorEquals": ["States.ALL", "x"]}]}, "/Retry[0]/ErrorEquals"),
        ({**TASK, "Retry": [{"ErrorEquals": ["x"], "BackoffRate": 0.5}]}, "/Retry[0]/BackoffRate"),
        ({**TASK, "Retry": [{"ErrorEquals": ["x"], "JitterStrategy": "SOME"}]}, "/Retry[0]/JitterStrategy"),
        ({**TASK, "Catch": [{"ErrorEquals": ["x"]}]}, "/Catch[0]"),
        ({**TASK, "Catch": [{"ErrorEquals": ["x"], "Next": "No"}]}, "/Catch[0]/Next"),
        ({"Type": "Choice", "Choices": []}, "/Choices"),
        ({"Type": "Wait"}, ""),
        ({"Type": "Wait", "Seconds": 1, "SecondsPath": "$.x"}, ""),
        ({"Type": "Wait", "Timestamp": "soon"}, "/Timestamp"),
        ({"Type": "Parallel", "Branches": []}, "/Branches"),
        ({"Type": "Parallel", "Branches": [{"StartAt": "X"}]}, "/Branches[0]"),
        ({"Type": "Map"}, ""),
        ({"Type": "Pass", "QueryLanguage": "JSONata", "Parameters": {}}, "/Parameters"),
        ({"Type": "Pass", "QueryLanguage": "XPath"}, "/QueryLanguage"),
        ({"Type": "Pass", "Output": "{% 1 %}"}, "/Output"),
    ],
)
def test_a_state_that_is_wrong(state: dict[str, Any], place: str) -> None:
    assert [problem.rpartition(" at ")[2] for problem in problems(only(state))] == [f"/States/State{place}"]


@pytest.mark.parametrize(
    "rule",
    [
        {"Variable": "$.x", "Next": "State"},
        {"Variable": "$.x", "IsPresent": "yes", "Next": "State"},
        {"Variable": "$.x", "StringEquals": 1, "Next": "State"},
        {"Variable": "$.x", "NumericEquals": "1", "Next": "State"},
        {"Variable": "x", "IsPresent": True, "Next": "State"},
        {"Variable": "$.x", "IsPresent": True},
        {"Variable": "$.x", "TimestampEquals": "today", "Next": "State"},
        {"And": [{"Variable": "$.x", "IsPresent": True, "Next": "State"}], "Next": "State"},
        {"Condition": "{% true %}", "Next": "State"},
    ],
)
def test_a_rule_that_is_wrong(rule: dict[str, Any]) -> None:
    assert len(problems(only({"Type": "Choice", "Choices": [rule]}))) == 1


@pytest.mark.parametrize(
    "resource",
    [
        "score",
        "arn:aws:states:::glue:startJobRun.sync",
        "arn:aws:states:::sagemaker:createModel.sync",
        "arn:aws:states:::sagemaker:createTrainingJob.waitForTaskToken",
        "arn:aws:states:::dynamodb:scan",
        "arn:aws:states:::aws-sdk:s3:makeBucket",
        "arn:aws:states:::aws-sdk:glacier:listVaults",
        "arn:aws:states:::aws-sdk:s3:listBuckets.sync",
        "arn:aws:states:us-east-1:000000000000:activity:work",
    ],
)
def test_an_integration_that_is_not_there_is_refused_by_its_name(resource: str) -> None:
    (problem,) = diagnose(json.dumps(only({"Type": "Task", "Resource": resource})), is_express=False)

    assert problem.location == "/States/State/Resource"


def test_what_express_workflows_can_not_do() -> None:
    task = {**TASK, "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken"}

    assert problems(only(task), is_express=True) == [
        "SCHEMA_VALIDATION_FAILED: Express state machine does not support '.waitForTaskToken' "
        "service integration at /States/State/Resource"
    ]


def test_a_name_is_used_once_in_all_of_a_definition() -> None:
    again = {"Type": "Parallel", "Branches": [only({"Type": "Pass"})]}

    assert problems(only(again)) == [
        "DUPLICATE_STATE_NAME: Duplicate State name: State at /States/State/Branches[0]/States/State"
    ]


async def test_a_wrong_definition_is_not_created_and_can_be_asked_about(machines: Machines) -> None:
    answer = machines.api.validate_state_machine_definition(definition="{}")

    assert answer == {
        "result": "FAIL",
        "diagnostics": [
            {
                "severity": "ERROR",
                "code": "SCHEMA_VALIDATION_FAILED",
                "message": "These fields are required: [States, StartAt]",
                "location": "/",
            }
        ],
        "truncated": False,
    }
    valid = machines.api.validate_state_machine_definition(definition=json.dumps(only({"Type": "Pass"})))
    assert valid == {"result": "OK", "diagnostics": [], "truncated": False}


def test_text_that_is_no_json() -> None:
    assert [problem.code for problem in diagnose("{", is_express=False)] == ["INVALID_JSON_DESCRIPTION"]

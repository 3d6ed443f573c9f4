"""TestState: which states may be tested, and with what."""

import json
from typing import Any

import pytest

from stagegate.local.service import AWSError
from tests.local.states.conftest import ROLE, Machines
from tests.local.states.tested_states import EACH, INVOKE, RETRIED, outcome_of


async def test_a_state_of_a_machine_is_found_by_its_name_wherever_it_stands(machines: Machines) -> None:
    machine = {"StartAt": "Each", "States": {"Each": EACH}}

    assert (await outcome_of(machines, machine, 5, stateName="One"))["output"] == 5
    with pytest.raises(AWSError, match="State not found in definition"):
        await outcome_of(machines, machine, 5, stateName="Nobody")


PASS = {"Type": "Pass", "End": True}
MACHINE = {"StartAt": "Only", "States": {"Only": PASS}}
ACTIVITY = {"Type": "Task", "Resource": "arn:aws:states:us-east-1:111111111111:activity:a", "End": True}
ELSEWHERE = {
    "Type": "Task",
    "Resource": "arn:aws:states:::http:invoke",
    "Parameters": {"ApiEndpoint": "https://example.com", "Method": "GET"},
    "End": True,
}


@pytest.mark.parametrize(
    ("definition", "members", "code", "message"),
    [
        (INVOKE, {}, "ValidationException", "RoleArn must be specified when testing a Task state"),
        (INVOKE, {"roleArn": "role"}, "InvalidArn", "Invalid Arn: 'Invalid ARN prefix: role'"),
        (
            EACH,
            {"roleArn": ROLE},
            "InvalidDefinition",
            "TestState API does not support Map or Parallel states. "
            "Supported state types include: [Task, Wait, Pass, Succeed, Fail, Choice]",
        ),
        (
            {**INVOKE, "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken"},
            {"roleArn": ROLE},
            "ValidationException",
            "A mock must be specified when testing the resource "
            "'arn:aws:states:::lambda:invoke.waitForTaskToken'",
        ),
        (
            ACTIVITY,
            {"roleArn": ROLE},
            "ValidationException",
            f"A mock must be specified when testing the resource '{ACTIVITY['Resource']}'",
        ),
        (
            PASS,
            {"result": 1},
            "ValidationException",
            "State type 'Pass' is not supported when a mock is specified",
        ),
        (
            PASS,
            {"context": {}},
            "ValidationException",
            "A Context object can only be specified when a mock is specified",
        ),
        (
            INVOKE,
            {"result": {}, "context": {"Other": {}}},
            "ValidationException",
            "Invalid Context object provided: Field 'Other' is not allowed",
        ),
        (
            INVOKE,
            {"result": {}, "context": {"Map": {"Item": {"Name": "a"}}}},
            "ValidationException",
            "Invalid Context object provided: Field 'Name' is not allowed",
        ),
        (
            INVOKE,
            {"result": {}, "context": {"State": 1}},
            "ValidationException",
            "Invalid Context object provided: Field 'State' must be an object",
        ),
        (
            INVOKE,
            {"result": {}, "context": 1},
            "ValidationException",
            "Invalid Context object provided: it must be a JSON object",
        ),
        (PASS, {"variables": [1]}, "ValidationException", "The variables must be a JSON object"),
        (MACHINE, {"stateName": "Nobody"}, "ValidationException", "State not found in definition"),
        (
            MACHINE,
            {},
            "InvalidDefinition",
            "Invalid State Machine Definition: "
            "'SCHEMA_VALIDATION_FAILED: These fields are required: [Type] at /'",
        ),
    ],
)
async def test_what_cannot_be_tested_is_refused(
    machines: Machines, definition: dict[str, Any], members: dict[str, Any], code: str, message: str
) -> None:
    with pytest.raises(AWSError) as refused:
        await outcome_of(machines, definition, {"order": 1, "items": []}, **members)

    assert (refused.value.code, refused.value.message) == (code, message)


async def test_a_state_by_its_name_needs_a_state_machine(machines: Machines) -> None:
    with pytest.raises(AWSError, match=r"These fields are required: \[States, StartAt\]") as refused:
        await outcome_of(machines, PASS, stateName="Only")

    assert refused.value.code == "InvalidDefinition"


@pytest.mark.parametrize("name", [None, "Call"])
async def test_what_is_not_there_is_never_called_but_can_be_mocked(
    machines: Machines, name: str | None
) -> None:
    definition = ELSEWHERE if name is None else {"StartAt": "Call", "States": {"Call": ELSEWHERE}}
    members = {} if name is None else {"stateName": name}

    with pytest.raises(AWSError, match="http:invoke") as refused:
        await outcome_of(machines, definition, roleArn=ROLE, **members)

    assert refused.value.code == "InvalidDefinition"
    answer = await outcome_of(machines, definition, result={"StatusCode": 200}, **members)
    assert answer["output"] == {"StatusCode": 200}


async def test_other_states_of_a_machine_may_call_what_is_not_there(machines: Machines) -> None:
    machine = {"StartAt": "First", "States": {"First": {"Type": "Pass", "Next": "Call"}, "Call": ELSEWHERE}}

    assert (await outcome_of(machines, machine, 1, stateName="First"))["nextState"] == "Call"


async def test_what_is_wrong_with_a_resource_is_told_also_with_a_mock(machines: Machines) -> None:
    state = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": True}

    with pytest.raises(AWSError, match="Parameters field is required for resource ARN") as refused:
        await outcome_of(machines, state, result={})

    assert refused.value.code == "InvalidDefinition"


def test_a_state_is_tested_over_http(shared_local: Any) -> None:
    states = shared_local.client("stepfunctions", inject_host_prefix=False)

    answer = states.test_state(
        definition=json.dumps(RETRIED),
        input='{"order":7}',
        inspectionLevel="TRACE",
        mock={"errorOutput": {"error": "Broken", "cause": "it broke"}},
        stateConfiguration={"retrierRetryCount": 1},
    )

    del answer["ResponseMetadata"]
    assert answer == {
        "status": "RETRIABLE",
        "error": "Broken",
        "cause": "it broke",
        "inspectionData": {
            "input": '{"order":7}',
            "afterInputPath": '{"order":7}',
            "afterParameters": '{"FunctionName":"f","Payload":7}',
            "errorDetails": {"retryIndex": 1, "retryBackoffIntervalSeconds": 6},
        },
    }

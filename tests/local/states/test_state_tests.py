"""TestState: one state on its own, with or without a mock, and what it reports of the data's way."""

import json
from typing import Any

import pytest

from stagegate.local.service import AWSError
from tests.local.states.conftest import ROLE, Machines

INVOKE = {
    "Type": "Task",
    "Resource": "arn:aws:states:::lambda:invoke",
    "Parameters": {"FunctionName": "f", "Payload.$": "$.order"},
    "End": True,
}
RETRIED = {
    **INVOKE,
    "Retry": [
        {"ErrorEquals": ["Other"]},
        {"ErrorEquals": ["States.TaskFailed"], "IntervalSeconds": 3, "BackoffRate": 2, "MaxAttempts": 2},
    ],
    "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Handle"}],
}
EACH = {
    "Type": "Map",
    "ItemsPath": "$.items",
    "ItemSelector": {"n.$": "$$.Map.Item.Value"},
    "MaxConcurrency": 2,
    "ItemProcessor": {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
        "StartAt": "One",
        "States": {"One": {"Type": "Pass", "End": True}},
    },
    "ItemBatcher": {"MaxItemsPerBatch": 2},
    "ToleratedFailureCount": 1,
    "End": True,
}


async def outcome_of(
    machines: Machines, definition: dict[str, Any], input: Any = None, **members: Any
) -> Any:
    """The response, with the JSON in it read."""
    for member in ("context", "variables"):
        if member in members:
            members[member] = json.dumps(members[member])
    if "result" in members:
        members["mock"] = {"result": json.dumps(members.pop("result"))}
    response = await machines.api.test_state(
        definition=json.dumps(definition),
        input=json.dumps({} if input is None else input),
        **{"inspectionLevel": "DEBUG", **members},
    )
    if "output" in response:
        response["output"] = json.loads(response["output"])
    response["inspectionData"] = {
        name: json.loads(value) if isinstance(value, str) else value
        for name, value in response.get("inspectionData", {}).items()
    }
    return response


async def test_a_state_shows_its_data_on_its_way(machines: Machines) -> None:
    state = {
        "Type": "Pass",
        "InputPath": "$.a",
        "Parameters": {"b.$": "$.b"},
        "ResultPath": "$.c",
        "OutputPath": "$.c",
        "Next": "After",
    }

    assert await outcome_of(machines, state, {"a": {"b": 1}}) == {
        "status": "SUCCEEDED",
        "output": {"b": 1},
        "nextState": "After",
        "inspectionData": {
            "input": {"a": {"b": 1}},
            "afterInputPath": {"b": 1},
            "afterParameters": {"b": 1},
            "afterResultSelector": {"b": 1},
            "afterResultPath": {"a": {"b": 1}, "c": {"b": 1}},
        },
    }


async def test_nothing_is_shown_unless_it_is_asked_for(machines: Machines) -> None:
    answer = await machines.api.test_state(definition='{"Type": "Pass", "End": true}', input="1")

    assert answer == {"status": "SUCCEEDED", "output": "1"}


async def test_a_task_is_really_done_where_there_is_no_mock(machines: Machines) -> None:
    machines.operations["lambda", "Invoke"] = lambda **request: {
        "Payload": b'{"paid": true}',
        "StatusCode": 200,
    }
    state = {"Type": "Task", "Resource": "arn:aws:lambda:us-east-1:000000000000:function:pay", "End": True}

    answer = await outcome_of(machines, state, {"order": 7}, roleArn=ROLE)

    assert answer["status"] == "SUCCEEDED"
    assert answer["inspectionData"] == {
        "input": {"order": 7},
        "afterInputPath": {"order": 7},
        "afterParameters": {"order": 7},
        "result": {"paid": True},
        "afterResultSelector": {"paid": True},
        "afterResultPath": {"paid": True},
    }
    assert list(machines.store.list("stepfunctions/execution")) == []
    assert list(machines.store.list("stepfunctions/task-token")) == []


async def test_a_mock_stands_in_for_the_work(machines: Machines) -> None:
    result = {"Payload": "done", "StatusCode": 200}

    answer = await outcome_of(machines, INVOKE, {"order": {"id": 7}}, result=result)

    assert answer["output"] == result
    assert answer["inspectionData"]["afterParameters"] == {"FunctionName": "f", "Payload": {"id": 7}}


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, {"status": "RETRIABLE", "errorDetails": {"retryIndex": 1, "retryBackoffIntervalSeconds": 3}}),
        (1, {"status": "RETRIABLE", "errorDetails": {"retryIndex": 1, "retryBackoffIntervalSeconds": 6}}),
        (2, {"status": "CAUGHT_ERROR", "errorDetails": {"retryIndex": 1, "catchIndex": 0}}),
    ],
)
async def test_what_retry_and_catch_would_do_is_told(
    machines: Machines, count: int, expected: dict[str, Any]
) -> None:
    answer = await outcome_of(
        machines,
        RETRIED,
        {"order": 7},
        mock={"errorOutput": {"error": "Broken", "cause": "it broke"}},
        stateConfiguration={"retrierRetryCount": count},
    )

    assert (answer["error"], answer["cause"]) == ("Broken", "it broke")
    assert answer["status"] == expected["status"]
    assert answer["inspectionData"]["errorDetails"] == expected["errorDetails"]
    if answer["status"] == "CAUGHT_ERROR":
        assert answer["nextState"] == "Handle"
        assert answer["output"] == {"order": 7, "error": {"Error": "Broken", "Cause": "it broke"}}


async def test_the_items_of_a_map_are_shown(machines: Machines) -> None:
    answer = await outcome_of(machines, EACH, {"items": [1, 2, 3]}, result=[[1, 2], [3]])

    assert answer["output"] == [[1, 2], [3]]
    assert answer["inspectionData"] == {
        "input": {"items": [1, 2, 3]},
        "afterInputPath": {"items": [1, 2, 3]},
        "afterItemsPath": [1, 2, 3],
        "maxConcurrency": 2,
        "toleratedFailureCount": 1,
        "afterItemSelector": [{"n": 1}, {"n": 2}, {"n": 3}],
        "afterItemBatcher": [{"Items": [{"n": 1}, {"n": 2}]}, {"Items": [{"n": 3}]}],
        "afterResultSelector": [[1, 2], [3]],
        "afterResultPath": [[1, 2], [3]],
    }


async def test_too_many_failed_iterations_fail_a_map(machines: Machines) -> None:
    answer = await outcome_of(
        machines, EACH, {"items": [1]}, result=[1], stateConfiguration={"mapIterationFailureCount": 2}
    )

    assert (answer["status"], answer["error"]) == ("FAILED", "States.ExceedToleratedFailureThreshold")


async def test_the_data_of_an_item_reader_can_be_given(machines: Machines) -> None:
    reader = {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": {"InputType": "CSV", "CSVHeaderLocation": "FIRST_ROW"},
        "Parameters": {"Bucket": "b", "Key": "k"},
    }
    state = {name: value for name, value in EACH.items() if name != "ItemsPath"} | {"ItemReader": reader}

    answer = await outcome_of(
        machines, state, result=[1], stateConfiguration={"mapItemReaderData": "name\nbeech\nelm\n"}
    )

    assert answer["inspectionData"]["afterItemSelector"] == [{"n": {"name": "beech"}}, {"n": {"name": "elm"}}]


async def test_a_state_of_a_machine_is_found_by_its_name_wherever_it_stands(machines: Machines) -> None:
    machine = {"StartAt": "Each", "States": {"Each": EACH}}

    assert (await outcome_of(machines, machine, 5, stateName="One"))["output"] == 5
    with pytest.raises(AWSError, match="State not found in definition"):
        await outcome_of(machines, machine, 5, stateName="Nobody")


async def test_variables_and_the_context_object_can_be_given(machines: Machines) -> None:
    state = {
        "Type": "Task",
        "QueryLanguage": "JSONata",
        "Resource": "arn:aws:states:::aws-sdk:sqs:sendMessage",
        "Arguments": {"QueueUrl": "u", "MessageBody": "{% $text %}"},
        "Assign": {"sent": "{% $states.result.MessageId %}"},
        "Output": "{% $states.context.Execution.Name %}",
        "End": True,
    }

    answer = await outcome_of(
        machines,
        state,
        variables={"text": "hello"},
        context={"Execution": {"Name": "mine"}},
        result={"MessageId": "m"},
    )

    assert answer["output"] == "mine"
    assert answer["inspectionData"] == {
        "input": {},
        "afterArguments": {"QueueUrl": "u", "MessageBody": "hello"},
        "result": {"MessageId": "m"},
        "variables": {"text": "hello", "sent": "m"},
    }


async def test_what_fails_is_told_without_an_execution_around_it(machines: Machines) -> None:
    state = {"Type": "Pass", "QueryLanguage": "JSONata", "Output": "{% $nothing %}", "End": True}

    answer = await outcome_of(machines, state)

    assert (answer["status"], answer["error"]) == ("FAILED", "States.QueryEvaluationError")
    assert answer["cause"] == (
        "The JSONata expression '$nothing' specified for the field 'Output' returned nothing (undefined)."
    )


@pytest.mark.parametrize(
    ("definition", "members", "code", "message"),
    [
        (INVOKE, {}, "ValidationException", "RoleArn must be specified when testing a Task state"),
        (EACH, {}, "InvalidDefinition", "does not support Map or Parallel states"),
        (
            {"Type": "Pass", "End": True},
            {"result": 1},
            "ValidationException",
            "State type 'Pass' is not supported when a mock is specified",
        ),
        (
            INVOKE,
            {"mock": {"result": "1", "errorOutput": {"error": "E"}}},
            "ValidationException",
            "only one of the following fields",
        ),
        (INVOKE, {"mock": {"result": "no"}}, "ValidationException", "must be a valid JSON string"),
        (EACH, {"result": {}}, "ValidationException", "Mocked result must be an array"),
        (
            INVOKE,
            {"result": {}, "context": {"Other": {}}},
            "ValidationException",
            "Invalid Context object provided: Field 'Other' is not allowed",
        ),
        (
            {"Type": "Pass", "End": True},
            {"context": {}},
            "ValidationException",
            "only be specified when a mock is specified",
        ),
        (
            {"Type": "Pass", "End": True},
            {"variables": [1]},
            "ValidationException",
            "The variables must be a JSON object",
        ),
        (
            {**INVOKE, "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken"},
            {"roleArn": ROLE},
            "InvalidDefinition",
            "does not support the resource",
        ),
        ({"Type": "Pass"}, {}, "InvalidDefinition", "Invalid State Machine Definition"),
    ],
)
async def test_what_cannot_be_tested_is_refused(
    machines: Machines, definition: dict[str, Any], members: dict[str, Any], code: str, message: str
) -> None:
    with pytest.raises(AWSError, match=message) as refused:
        await outcome_of(machines, definition, {"order": 1, "items": []}, **members)

    assert refused.value.code == code


@pytest.mark.parametrize(
    ("resource", "result", "mode", "problem"),
    [
        ("aws-sdk:s3:getObject", {"ContentLength": "1"}, "STRICT", "'ContentLength' must be a number"),
        ("aws-sdk:s3:getObject", {"Metadata": []}, "PRESENT", "'Metadata' must be an object"),
        ("aws-sdk:s3:getObject", {"StorageClass": "Paper"}, "STRICT", "is not an expected value"),
        ("aws-sdk:s3:getObject", {"DeleteMarker": 1}, "STRICT", "'DeleteMarker' must be a boolean"),
        ("states:startExecution", {"StartDate": 1}, "PRESENT", "'StartDate' must be a string"),
        ("states:startExecution", {"StartDate": "now"}, "STRICT", "'ExecutionArn' is required"),
        ("events:putEvents", {"Entries": {}}, "STRICT", "'Entries' must be an array"),
        ("events:putEvents", {"Entries": [{"EventId": 1}]}, "STRICT", "'EventId' must be a string"),
        ("lambda:invoke", {"Payload": {}}, "STRICT", "'Payload' must be a string"),
        ("lambda:invoke", [], "STRICT", "must be a JSON object"),
        ("states:startExecution", {"StartDate": "now"}, "PRESENT", None),
        ("states:startExecution", {}, "NONE", None),
        ("lambda:invoke", {"Unknown": 1}, "STRICT", None),
        ("lambda:invoke.waitForTaskToken", {"any": "thing"}, "STRICT", None),
    ],
)
async def test_a_mocked_result_must_be_what_the_api_could_answer(
    machines: Machines, resource: str, result: Any, mode: str, problem: str | None
) -> None:
    parameters = {
        "aws-sdk:s3:getObject": {"Bucket": "b", "Key": "k"},
        "states:startExecution": {"StateMachineArn": "arn:aws:states:us-east-1:000000000000:stateMachine:m"},
        "events:putEvents": {"Entries": []},
        "lambda:invoke": {"FunctionName": "f"},
    }[resource.partition(".wait")[0]]
    state = {
        "Type": "Task",
        "Resource": f"arn:aws:states:::{resource}",
        "Parameters": parameters,
        "End": True,
    }
    mock = {"result": json.dumps(result), "fieldValidationMode": mode}

    if problem is None:
        assert (await outcome_of(machines, state, mock=mock))["output"] == result
    else:
        with pytest.raises(AWSError, match=f"Mock result schema validation error: .*{problem}"):
            await outcome_of(machines, state, mock=mock)

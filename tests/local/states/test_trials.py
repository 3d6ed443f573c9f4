"""One state performed on its own: what becomes of its data, of its errors and of its items."""

import asyncio
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from stagegate.local.states import trials
from tests.local.states.conftest import ROLE, Machines
from tests.local.states.tested_states import EACH, INVOKE, RETRIED, outcome_of


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
    state = {"Type": "Task", "Resource": "arn:aws:lambda:us-east-1:111111111111:function:pay", "End": True}

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


async def test_the_retries_so_far_stand_in_the_context_object(machines: Machines) -> None:
    state = {**INVOKE, "Parameters": {"FunctionName": "f", "Payload.$": "$$.State.RetryCount"}}

    answer = await outcome_of(machines, state, result={}, stateConfiguration={"retrierRetryCount": 2})

    assert answer["inspectionData"]["afterParameters"] == {"FunctionName": "f", "Payload": 2}


async def test_the_wait_before_a_retry_is_no_longer_than_its_maximum(machines: Machines) -> None:
    retrier = {"ErrorEquals": ["States.ALL"], "IntervalSeconds": 7, "BackoffRate": 1.5, "MaxDelaySeconds": 9}

    answer = await outcome_of(
        machines,
        {**INVOKE, "Retry": [retrier]},
        {"order": 7},
        mock={"errorOutput": {"error": "Broken"}},
        stateConfiguration={"retrierRetryCount": 1},
    )

    assert answer["inspectionData"]["errorDetails"] == {"retryIndex": 0, "retryBackoffIntervalSeconds": 9}


async def test_a_state_within_a_map_sees_an_item(machines: Machines) -> None:
    item = {"Type": "Pass", "Parameters": {"item.$": "$$.Map.Item"}, "End": True}
    processor = {"StartAt": "One", "States": {"One": item}}
    each = {"Type": "Map", "ItemProcessor": processor, "End": True}
    machine = {"StartAt": "Each", "States": {"Each": each}}

    answer = await outcome_of(machines, machine, {"id": 7}, stateName="One")

    assert answer["output"] == {"item": {"Index": 0, "Value": {"id": 7}}}


async def test_a_task_that_waits_for_its_token_has_one(machines: Machines) -> None:
    parameters = {"FunctionName": "f", "Payload": {"token.$": "$$.Task.Token"}}
    state = {**INVOKE, "Resource": f"{INVOKE['Resource']}.waitForTaskToken", "Parameters": parameters}

    answer = await outcome_of(machines, state, result={"answered": True})
    given = await outcome_of(machines, state, result={"answered": True}, context={"Task": {"Token": "mine"}})

    assert answer["output"] == {"answered": True}
    assert answer["inspectionData"]["afterParameters"]["Payload"]["token"]
    assert given["inspectionData"]["afterParameters"]["Payload"] == {"token": "mine"}


async def test_the_limits_of_a_mocked_task_are_worked_out_too(machines: Machines) -> None:
    answer = await outcome_of(machines, {**INVOKE, "TimeoutSecondsPath": "$.seconds"}, {}, result={})

    assert (answer["status"], answer["error"]) == ("FAILED", "States.Runtime")


async def test_more_than_a_state_may_hand_on_is_refused(machines: Machines) -> None:
    state = {
        "Type": "Pass",
        "QueryLanguage": "JSONata",
        "Output": "{% $pad('', 300000, 'x') %}",
        "End": True,
    }

    answer = await outcome_of(machines, state)

    assert (answer["status"], answer["error"]) == ("FAILED", "States.DataLimitExceeded")


async def test_the_way_of_the_data_into_branches_is_not_shown(machines: Machines) -> None:
    branch = {"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}}
    state = {"Type": "Parallel", "Branches": [branch], "ResultPath": "$.results", "End": True}

    answer = await outcome_of(machines, state, {"a": 1}, result=[2])

    assert answer["inspectionData"] == {
        "input": {"a": 1},
        "afterResultSelector": [2],
        "afterResultPath": {"a": 1, "results": [2]},
    }


@pytest.mark.parametrize(
    ("configuration", "status"), [({}, "FAILED"), ({"errorCausedByState": "One"}, "CAUGHT_ERROR")]
)
async def test_an_error_that_a_state_within_has_caused_is_a_failed_task(
    machines: Machines, configuration: dict[str, str], status: str
) -> None:
    state = {**EACH, "Catch": [{"ErrorEquals": ["States.TaskFailed"], "Next": "After"}]}

    answer = await outcome_of(
        machines,
        state,
        {"items": []},
        mock={"errorOutput": {"error": "Broken"}},
        stateConfiguration=configuration,
    )

    assert (answer["status"], answer["error"]) == (status, "Broken")


async def test_what_a_catch_assigns_is_among_the_variables(machines: Machines) -> None:
    state = {
        "Type": "Task",
        "QueryLanguage": "JSONata",
        "Resource": INVOKE["Resource"],
        "Arguments": {"FunctionName": "f"},
        "Catch": [
            {
                "ErrorEquals": ["States.ALL"],
                "Assign": {"why": "{% $states.errorOutput.Cause %}"},
                "Output": "{% $states.errorOutput.Error %}",
                "Next": "After",
            }
        ],
        "End": True,
    }

    answer = await outcome_of(machines, state, mock={"errorOutput": {"error": "Broken", "cause": "it broke"}})

    assert answer == {
        "status": "CAUGHT_ERROR",
        "error": "Broken",
        "cause": "it broke",
        "output": "Broken",
        "nextState": "After",
        "inspectionData": {
            "input": {},
            "afterArguments": {"FunctionName": "f"},
            "variables": {"why": "it broke"},
            "errorDetails": {"catchIndex": 0},
        },
    }


async def test_the_members_of_an_object_are_items_with_their_keys(machines: Machines) -> None:
    state = {**EACH, "ItemsPath": "$", "ItemSelector": {"item.$": "$$.Map.Item"}}
    del state["ItemBatcher"]

    answer = await outcome_of(machines, state, {"a": 1}, result=[1])

    assert answer["inspectionData"]["afterItemsPath"] == {"a": 1}
    assert answer["inspectionData"]["afterItemSelector"] == [
        {"item": {"Index": 0, "Key": "a", "Value": 1, "Source": "STATE_DATA"}}
    ]


@pytest.mark.parametrize(
    ("config", "data", "shown"),
    [
        (
            {"InputType": "JSON", "ItemsPointer": "/found"},
            '{"found": [1, 2]}',
            {"afterItemsPointer": [1, 2], "afterItemSelector": [{"n": 1}, {"n": 2}]},
        ),
        ({"InputType": "JSONL", "MaxItems": 1}, "1\n2\n", {"afterItemSelector": [{"n": 1}]}),
    ],
)
async def test_what_a_reader_is_told_to_take_of_its_data(
    machines: Machines, config: dict[str, Any], data: str, shown: dict[str, Any]
) -> None:
    reader = {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": config,
        "Parameters": {"Bucket": "b", "Key": "k"},
    }
    state = {name: value for name, value in EACH.items() if name not in ("ItemsPath", "ItemBatcher")}

    answer = await outcome_of(
        machines,
        {**state, "ItemReader": reader},
        result=[],
        stateConfiguration={"mapItemReaderData": data},
    )

    inspected = answer["inspectionData"]
    assert {name: inspected[name] for name in inspected if name.startswith("afterItem")} == shown


async def test_data_that_no_reader_can_read_fails_the_map(machines: Machines) -> None:
    reader = {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": {"InputType": "JSON"},
        "Parameters": {"Bucket": "b", "Key": "k"},
    }
    state = {name: value for name, value in EACH.items() if name != "ItemsPath"} | {"ItemReader": reader}

    answer = await outcome_of(machines, state, result=[], stateConfiguration={"mapItemReaderData": "{"})

    assert (answer["status"], answer["error"]) == ("FAILED", "States.ItemReaderFailed")


async def test_a_percentage_of_failed_iterations_can_be_too_many(machines: Machines) -> None:
    state = {name: value for name, value in EACH.items() if name != "ToleratedFailureCount"}
    state["ToleratedFailurePercentage"] = 50

    statuses = [
        (
            await outcome_of(
                machines,
                state,
                {"items": [1, 2]},
                result=[],
                stateConfiguration={"mapIterationFailureCount": count},
            )
        )["status"]
        for count in (0, 1, 2)
    ]

    assert statuses == ["SUCCEEDED", "SUCCEEDED", "FAILED"]


async def test_a_state_has_only_so_long(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "_MAXIMUM_SECONDS", 0.01)

    answer = await outcome_of(machines, {"Type": "Wait", "Seconds": 600, "End": True})

    assert (answer["status"], answer["error"]) == ("FAILED", "States.Timeout")


async def test_a_task_that_takes_too_long_times_out_as_in_an_execution(machines: Machines) -> None:
    async def never_answers(**request: Any) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    machines.operations["lambda", "Invoke"] = never_answers
    state = {**INVOKE, "TimeoutSeconds": 1, "Catch": [{"ErrorEquals": ["States.Timeout"], "Next": "Late"}]}

    answer = await outcome_of(machines, state, {"order": 7}, roleArn=ROLE)

    assert (answer["status"], answer["error"], answer["nextState"]) == (
        "CAUGHT_ERROR",
        "States.Timeout",
        "Late",
    )


async def test_nothing_is_left_in_the_store(machines: Machines) -> None:
    machines.operations["lambda", "Invoke"] = lambda **request: {"Payload": b"1", "StatusCode": 200}
    before = rows(machines)

    await outcome_of(machines, INVOKE, {"order": 1}, roleArn=ROLE)
    await outcome_of(machines, EACH, {"items": [1]}, result=[1])
    await outcome_of(machines, {"Type": "Wait", "Seconds": 0, "End": True})
    await machines.store.committed()

    assert rows(machines) == before
    assert machines.api.engine.running == {}


def rows(machines: Machines) -> dict[str, int]:
    """How many rows each table of the database on disk has."""
    with closing(sqlite3.connect(machines.path / "stagegate.db")) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}  # noqa: S608

"""The distributed Map: an execution for each item, batches, tolerated failures, results."""

import json
from typing import Any

import pytest

from tests.local.states.conftest import Machines, only
from tests.local.states.distributed_maps import (
    FAIL_ON_ODD,
    PASS,
    Bucket,
    distributed,
    failing_on,
    map_run_of,
    numbers,
)


async def test_each_item_is_an_execution_of_its_own(machines: Machines) -> None:
    state = distributed(
        PASS,
        ItemsPath="$.items",
        ItemSelector={"index.$": "$$.Map.Item.Index", "value.$": "$$.Map.Item.Value"},
        ResultPath="$.results",
    )

    ended = await machines.run(only(state), {"items": ["a", "b"]})

    results = [{"index": 0, "value": "a"}, {"index": 1, "value": "b"}]
    assert ended.output == {"items": ["a", "b"], "results": results}
    assert ended.links == [
        (1, 0, "ExecutionStarted"),
        (2, 0, "MapStateEntered"),
        (3, 2, "MapStateStarted"),
        (4, 3, "MapRunStarted"),
        (5, 4, "MapRunSucceeded"),
        (6, 5, "MapStateSucceeded"),
        (7, 5, "MapStateExited"),
        (8, 7, "ExecutionSucceeded"),
    ]
    (started,) = ended.details("MapRunStarted")
    assert ":mapRun:machine-1/Items:" in started["mapRunArn"]
    children = machines.api.list_executions(mapRunArn=started["mapRunArn"])["executions"]
    described = [machines.api.describe_execution(executionArn=child["executionArn"]) for child in children]
    assert [json.loads(child["output"]) for child in reversed(described)] == results
    assert {child["mapRunArn"] for child in described} == {started["mapRunArn"]}
    assert [event["type"] for event in machines.history(children[0]["executionArn"])] == [
        "ExecutionStarted",
        "PassStateEntered",
        "PassStateExited",
        "ExecutionSucceeded",
    ]


async def test_the_members_of_an_object_are_items_with_a_key(machines: Machines) -> None:
    state = distributed(PASS, ItemSelector={"key.$": "$$.Map.Item.Key", "value.$": "$$.Map.Item.Value"})

    assert await machines.output(state, {"a": 1, "b": 2}) == [
        {"key": "a", "value": 1},
        {"key": "b", "value": 2},
    ]
    assert await machines.output(distributed(PASS), {"a": 1}) == [{"Key": "a", "Value": 1}]


async def test_a_failure_that_is_not_tolerated_ends_the_run(machines: Machines) -> None:
    ended = await machines.run(only(distributed(FAIL_ON_ODD, MaxConcurrency=1)), numbers(6))

    cause = "The specified tolerated failure threshold was exceeded"
    assert (ended.status, ended.error, ended.cause) == (
        "FAILED",
        "States.ExceedToleratedFailureThreshold",
        cause,
    )
    assert ended.types[4:] == ["MapRunFailed", "MapStateFailed", "ExecutionFailed"]
    run = map_run_of(machines, ended)
    assert run["status"] == "FAILED"
    assert run["executionCounts"] == {
        "pending": 4,
        "running": 0,
        "succeeded": 1,
        "failed": 1,
        "timedOut": 0,
        "aborted": 0,
        "total": 6,
        "resultsWritten": 6,
        "failuresNotRedrivable": 0,
        "pendingRedrive": 0,
    }


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"ToleratedFailureCount": 3}, "SUCCEEDED"),
        ({"ToleratedFailureCount": 2}, "FAILED"),
        ({"ToleratedFailurePercentage": 50}, "SUCCEEDED"),
        ({"ToleratedFailurePercentage": 49}, "FAILED"),
        ({"ToleratedFailurePercentage": 100, "ToleratedFailureCount": 1}, "FAILED"),
        ({"ToleratedFailureCountPath": "$[5].n"}, "SUCCEEDED"),
        ({"ToleratedFailureCountPath": "$[0].text"}, "SUCCEEDED"),
    ],
)
async def test_failures_are_tolerated_up_to_a_limit(
    machines: Machines, fields: dict[str, Any], status: str
) -> None:
    ended = await machines.run(
        only(distributed(FAIL_ON_ODD, **fields)), [{**numbers(1)[0], "text": "3"}, *numbers(6)[1:]]
    )

    assert ended.status == status
    if status == "SUCCEEDED":
        assert [part.get("n", part.get("Error")) for part in ended.output] == [0, "Odd", 2, "Odd", 4, "Odd"]


async def test_all_the_items_of_a_batch_that_fails_count(machines: Machines) -> None:
    states = {**failing_on([1]), "First": {**failing_on([1])["First"], "InputPath": "$.Items[0]"}}
    state = distributed(states, ItemBatcher={"MaxItemsPerBatch": 3}, MaxConcurrency=1)

    tolerated = await machines.run(only({**state, "ToleratedFailureCount": 3}), [1, 2, 3, 4])
    exceeded = await machines.run(only({**state, "ToleratedFailureCount": 2}), [1, 2, 3, 4])

    assert (tolerated.status, exceeded.status) == ("SUCCEEDED", "FAILED")
    run = map_run_of(machines, exceeded)
    assert (run["itemCounts"]["failed"], run["executionCounts"]["failed"]) == (3, 1)


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"ToleratedFailureCountPath": "$[0].n"}, "ToleratedFailureCount cannot be negative."),
        (
            {"ToleratedFailureCountPath": "$[0].text"},
            'The ToleratedFailureCountPath field refers to value "many" which is not a valid integer: '
            "$[0].text",
        ),
        (
            {"ToleratedFailurePercentagePath": "$[0].list"},
            'The ToleratedFailurePercentagePath field refers to value "[1]" which is not a valid float: '
            "$[0].list",
        ),
        (
            {"ToleratedFailurePercentagePath": "$[1].n"},
            "ToleratedFailurePercentage must be between 0 and 100.",
        ),
    ],
)
async def test_limits_that_are_none_are_refused(
    machines: Machines, fields: dict[str, Any], cause: str
) -> None:
    ended = await machines.run(
        only(distributed(PASS, **fields)), [{"n": -1, "text": "many", "list": [1]}, {"n": 101}]
    )

    assert ended.error == "States.Runtime"
    assert ended.cause is not None and ended.cause.endswith(cause)
    assert ended.types[-2:] == ["MapStateStarted", "ExecutionFailed"]


async def test_items_are_put_together_in_batches(machines: Machines) -> None:
    batcher = {"MaxItemsPerBatch": 2, "BatchInput": {"of.$": "$.name"}}

    output = await machines.output(
        distributed(PASS, ItemsPath="$.items", ItemBatcher=batcher), {"name": "x", "items": [1, 2, 3]}
    )

    assert output == [
        {"BatchInput": {"of": "x"}, "Items": [1, 2]},
        {"BatchInput": {"of": "x"}, "Items": [3]},
    ]


async def test_a_batch_is_limited_by_its_size_too(machines: Machines) -> None:
    items = ["x" * 100] * 4
    state = distributed(PASS, ItemBatcher={"MaxInputBytesPerBatch": 250})

    batches = await machines.output(state, items)

    assert [len(batch["Items"]) for batch in batches] == [2, 2]
    assert all(len(json.dumps(batch)) <= 250 for batch in batches)


async def test_results_are_written_to_s3(machines: Machines) -> None:
    bucket = Bucket(machines)
    writer = {"Resource": "arn:aws:states:::s3:putObject", "Parameters": {"Bucket": "b", "Prefix": "out/"}}
    state = distributed(FAIL_ON_ODD, ToleratedFailurePercentage=100, ResultWriter=writer)

    ended = await machines.run(only(state), numbers(3))

    run = ended.details("MapRunStarted")[0]["mapRunArn"]
    folder = f"out/{run.rpartition(':')[2]}"
    assert ended.output == {
        "MapRunArn": run,
        "ResultWriterDetails": {"Bucket": "b", "Key": f"{folder}/manifest.json"},
    }
    succeeded, failed = bucket.json(f"{folder}/SUCCEEDED_0.json"), bucket.json(f"{folder}/FAILED_0.json")
    assert [json.loads(record["Output"]) for record in succeeded] == [{"n": 0}, {"n": 2}]
    assert [(record["Status"], record["Error"], record["Cause"]) for record in failed] == [
        ("FAILED", "Odd", "it is odd")
    ]
    assert bucket.json(f"{folder}/manifest.json") == {
        "DestinationBucket": "b",
        "MapRunArn": run,
        "ResultFiles": {
            "SUCCEEDED": [
                {
                    "Key": f"{folder}/SUCCEEDED_0.json",
                    "Size": len(bucket.objects[f"{folder}/SUCCEEDED_0.json"]),
                }
            ],
            "FAILED": [
                {"Key": f"{folder}/FAILED_0.json", "Size": len(bucket.objects[f"{folder}/FAILED_0.json"])}
            ],
            "PENDING": [],
        },
    }


@pytest.mark.parametrize(("transformation", "output"), [("COMPACT", [[1, 2], [3]]), ("FLATTEN", [1, 2, 3])])
async def test_a_writer_without_a_bucket_shapes_the_output(
    machines: Machines, transformation: str, output: list[Any]
) -> None:
    writer = {"WriterConfig": {"Transformation": transformation, "OutputType": "JSON"}}

    assert await machines.output(distributed(PASS, ResultWriter=writer), [[1, 2], [3]]) == output


async def test_a_file_that_is_not_there_fails_the_run(machines: Machines) -> None:
    Bucket(machines)
    reader = {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": {"InputType": "JSON"},
        "Parameters": {"Bucket": "b", "Key": "items.json"},
    }

    ended = await machines.run(only(distributed(PASS, ItemReader=reader)))

    assert (ended.status, ended.error) == ("FAILED", "States.ItemReaderFailed")
    assert ended.types[3:] == ["MapRunStarted", "MapRunFailed", "MapStateFailed", "ExecutionFailed"]
    assert ended.details("MapRunFailed") == [
        {"error": "States.ItemReaderFailed", "cause": "The specified key does not exist."}
    ]


async def test_a_map_in_jsonata_is_distributed_too(machines: Machines) -> None:
    state = distributed(
        {
            "Item": {
                "Type": "Pass",
                "QueryLanguage": "JSONata",
                "Output": "{% $states.input.n * 2 %}",
                "End": True,
            }
        },
        QueryLanguage="JSONata",
        Items="{% $states.input.items %}",
        ItemSelector={"n": "{% $states.context.Map.Item.Value %}"},
        ToleratedFailurePercentage="{% 10 %}",
        Output="{% $sum($states.result) %}",
    )

    assert await machines.output(state, {"items": [1, 2, 3]}) == 12


async def test_a_map_can_be_inside_a_map(machines: Machines) -> None:
    inner = distributed({"Leaf": {"Type": "Pass", "End": True}}, Label="Inner")

    ended = await machines.run(only(distributed({"Rows": {**inner, "End": True}})), [[1, 2], [3]])

    assert ended.output == [[1, 2], [3]]
    outer = map_run_of(machines, ended)
    children = machines.api.list_executions(mapRunArn=outer["mapRunArn"])["executions"]
    runs = [machines.api.list_map_runs(executionArn=child["executionArn"])["mapRuns"] for child in children]
    machine = ended.arn.rpartition(":")[0].replace(":execution:", ":stateMachine:")
    assert [[run["stateMachineArn"] for run in inside] for inside in runs] == 2 * [[f"{machine}/Inner"]]


async def test_a_result_that_is_too_large_fails_the_state_unless_it_is_dropped(machines: Machines) -> None:
    items = ["x" * 10_000] * 20
    states = {"Double": {"Type": "Pass", "Parameters": {"a.$": "$", "b.$": "$"}, "End": True}}

    ended = await machines.run(only(distributed(states)), items)

    assert (ended.status, ended.error) == ("FAILED", "States.DataLimitExceeded")
    assert map_run_of(machines, ended)["status"] == "SUCCEEDED"
    assert await machines.output(distributed(states, ResultPath=None), items) == items


async def test_a_run_of_no_items_succeeds(machines: Machines) -> None:
    ended = await machines.run(only(distributed(PASS)), [])

    assert ended.output == []
    assert map_run_of(machines, ended)["executionCounts"]["total"] == 0


async def test_a_retry_of_the_state_is_another_map_run(machines: Machines) -> None:
    retry = [
        {"ErrorEquals": ["States.ExceedToleratedFailureThreshold"], "IntervalSeconds": 1, "MaxAttempts": 1}
    ]
    catch = [{"ErrorEquals": ["States.ALL"], "Next": "After"}]
    definition = {
        "StartAt": "Map",
        "States": {
            "Map": {**distributed(failing_on([1])), "Retry": retry, "Catch": catch, "Next": "After"},
            "After": {"Type": "Pass", "End": True},
        },
    }

    ended = await machines.run(definition, [1])

    cause = "The specified tolerated failure threshold was exceeded"
    assert ended.output == {"Error": "States.ExceedToleratedFailureThreshold", "Cause": cause}
    runs = machines.api.list_map_runs(executionArn=ended.arn)["mapRuns"]
    assert len({run["mapRunArn"] for run in runs}) == 2
    assert ended.types.count("MapRunFailed") == 2

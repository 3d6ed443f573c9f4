"""The distributed Map: an execution for each item, tolerated failures, restarts and redrives."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from stagegate.local.service import AWSError
from tests.local.states.conftest import Ended, Machines, only


class Bucket:
    """An S3 bucket with these objects."""

    def __init__(self, machines: Machines, objects: dict[str, bytes] | None = None) -> None:
        self.objects = dict(objects or {})
        machines.operations["s3", "GetObject"] = self.get
        machines.operations["s3", "PutObject"] = self.put

    def get(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        if Key not in self.objects:
            raise AWSError("NoSuchKey", "The specified key does not exist.", status=404)
        return {"Body": self.objects[Key]}

    def put(self, *, Bucket: str, Key: str, Body: bytes) -> dict[str, Any]:
        self.objects[Key] = Body
        return {"ETag": '"x"'}

    def json(self, key: str) -> Any:
        return json.loads(self.objects[key])


def distributed(states: dict[str, dict[str, Any]], **fields: Any) -> dict[str, Any]:
    processor = {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
        "StartAt": next(iter(states)),
        "States": states,
    }
    return {"Type": "Map", "Label": "Items", "ItemProcessor": processor, **fields}


PASS = {"Item": {"Type": "Pass", "End": True}}
FAIL_ON_ODD = {
    "Odd": {
        "Type": "Choice",
        "Choices": [{"Variable": "$.odd", "BooleanEquals": True, "Next": "Broken"}],
        "Default": "Fine",
    },
    "Broken": {"Type": "Fail", "Error": "Odd", "Cause": "it is odd"},
    "Fine": {"Type": "Pass", "Parameters": {"n.$": "$.n"}, "End": True},
}
CALL = {
    "Call": {
        "Type": "Task",
        "Resource": "arn:aws:states:::sqs:sendMessage",
        "Parameters": {"QueueUrl": "http://queue", "MessageBody.$": "States.JsonToString($)"},
        "ResultPath": None,
        "End": True,
    }
}


def numbers(count: int) -> list[dict[str, Any]]:
    return [{"n": n, "odd": n % 2 == 1} for n in range(count)]


def map_run_of(machines: Machines, ended: Ended) -> dict[str, Any]:
    (run,) = machines.api.list_map_runs(executionArn=ended.arn)["mapRuns"]
    return dict(machines.api.describe_map_run(mapRunArn=run["mapRunArn"]))


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
    ],
)
async def test_failures_are_tolerated_up_to_a_limit(
    machines: Machines, fields: dict[str, Any], status: str
) -> None:
    ended = await machines.run(only(distributed(FAIL_ON_ODD, **fields)), numbers(6))

    assert ended.status == status
    if status == "SUCCEEDED":
        assert ended.output == [{"n": 0}, {"n": 2}, {"n": 4}]


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"ToleratedFailureCountPath": "$[0].n"}, "ToleratedFailureCount cannot be negative."),
        (
            {"ToleratedFailurePercentagePath": "$[1].n"},
            "ToleratedFailurePercentage must be between 0 and 100.",
        ),
    ],
)
async def test_limits_that_are_none_are_refused(
    machines: Machines, fields: dict[str, Any], cause: str
) -> None:
    ended = await machines.run(only(distributed(PASS, **fields)), [{"n": -1}, {"n": 101}])

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


class Queue:
    """A queue that takes so many messages, and then makes the sender wait."""

    def __init__(self, machines: Machines, *, takes: int) -> None:
        self.sent: list[Any] = []
        self.takes = takes
        self.is_full = asyncio.Event()
        self.may_go_on = asyncio.Event()
        machines.operations["sqs", "SendMessage"] = self.send

    async def send(self, *, QueueUrl: str, MessageBody: str) -> dict[str, Any]:
        if len(self.sent) >= self.takes:
            self.is_full.set()
            await self.may_go_on.wait()
        self.sent.append(json.loads(MessageBody))
        return {"MessageId": "m", "MD5OfMessageBody": "x"}


async def test_after_a_kill_the_run_goes_on_with_what_had_not_ended(
    machines: Machines, tmp_path: Path
) -> None:
    bucket = Bucket(machines, {"items.jsonl": b"1\n2\n3\n4\n"})
    queue = Queue(machines, takes=2)
    reader = {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": {"InputType": "JSONL"},
        "Parameters": {"Bucket": "b", "Key": "items.jsonl"},
    }
    execution = machines.start(only(distributed(CALL, ItemReader=reader, MaxConcurrency=1)))
    await asyncio.wait_for(queue.is_full.wait(), 20)
    await machines.store.committed()

    bucket.objects.clear()  # the items are not read again
    again = await machines.killed(tmp_path / "again")
    queue.may_go_on.set()
    ended = await again.end(execution)
    await again.close()

    assert (ended.status, ended.output) == ("SUCCEEDED", [1, 2, 3, 4])
    assert queue.sent == [1, 2, 3, 4]
    assert ended.types.count("MapRunStarted") == 1


async def test_stopping_the_parent_stops_its_children(machines: Machines) -> None:
    queue = Queue(machines, takes=0)
    execution = machines.start(only(distributed(CALL)), [1, 2])
    await asyncio.wait_for(queue.is_full.wait(), 20)

    machines.api.stop_execution(executionArn=execution, cause="enough")
    ended = await machines.end(execution)

    run = map_run_of(machines, ended)
    assert (ended.status, run["status"]) == ("ABORTED", "ABORTED")
    assert run["executionCounts"]["aborted"] == 2
    assert machines.api.engine.running == {}
    children = machines.api.list_executions(mapRunArn=run["mapRunArn"], statusFilter="ABORTED")["executions"]
    assert len(children) == 2


async def test_a_redrive_runs_only_the_children_that_failed(machines: Machines) -> None:
    asked: list[int] = []
    breaks = True

    def send(*, QueueUrl: str, MessageBody: str) -> dict[str, Any]:
        asked.append(json.loads(MessageBody))
        if breaks and asked[-1] == 2:
            raise AWSError("InternalError", "broken", status=500)
        return {"MessageId": "m", "MD5OfMessageBody": "x"}

    machines.operations["sqs", "SendMessage"] = send
    execution = machines.start(only(distributed(CALL, MaxConcurrency=1)), [1, 2, 3])
    assert (await machines.end(execution)).status == "FAILED"

    breaks = False
    machines.api.redrive_execution(executionArn=execution)
    ended = await machines.end(execution)

    assert (ended.status, ended.output) == ("SUCCEEDED", [1, 2, 3])
    assert asked == [1, 2, 2, 3]
    assert ended.types[-6:] == [
        "ExecutionRedriven",
        "MapRunRedriven",
        "MapRunSucceeded",
        "MapStateSucceeded",
        "MapStateExited",
        "ExecutionSucceeded",
    ]
    assert map_run_of(machines, ended)["redriveCount"] == 1


async def test_the_limits_of_a_run_can_be_changed_while_it_runs(machines: Machines) -> None:
    queue = Queue(machines, takes=0)
    execution = machines.start(only(distributed(CALL, MaxConcurrency=1)), [1, 2, 3])
    await asyncio.wait_for(queue.is_full.wait(), 20)
    (run,) = machines.api.list_map_runs(executionArn=execution)["mapRuns"]
    arn = run["mapRunArn"]
    assert machines.api.describe_map_run(mapRunArn=arn)["itemCounts"]["running"] == 1

    machines.api.update_map_run(mapRunArn=arn, maxConcurrency=3)
    while machines.api.describe_map_run(mapRunArn=arn)["itemCounts"]["running"] < 3:  # noqa: ASYNC110
        await asyncio.sleep(0)
    queue.may_go_on.set()

    assert (await machines.end(execution)).output == [1, 2, 3]
    with pytest.raises(AWSError, match="ValidationException: Map Run is not running"):
        machines.api.update_map_run(mapRunArn=arn, maxConcurrency=1)


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

"""Distributed Maps for the tests: their states, their bucket, a queue that makes them wait."""

import asyncio
import json
from typing import Any

from stagegate.local.service import AWSError
from tests.local.states.conftest import Ended, Machines


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


def failing_on(numbers: list[int]) -> dict[str, dict[str, Any]]:
    return {
        "First": {
            "Type": "Choice",
            "Choices": [{"Variable": "$", "NumericEquals": number, "Next": "Broken"} for number in numbers],
            "Default": "Fine",
        },
        "Broken": {"Type": "Fail", "Error": "Broken"},
        "Fine": {"Type": "Succeed"},
    }
